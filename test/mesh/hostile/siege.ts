// How does a test lay siege to a sidecar? It gets all it needs from a real control plane, which then goes; the next one it
// reaches is a hostile one.

import type { ExecutionContext } from 'ava';
import { Authority } from '../../support/certificates.js';
import { httpOrigin } from '../../support/http.js';
import { Mesh, type MeshSidecar, ask, idOf, numberOf } from '../support.js';
import { HostileControl } from './control.js';

/** More than a sidecar needs by far: the worst of these tests takes 38 MB, most 15, of which this build has 14 to begin with. */
export const MOST_BYTES = 48 * 1024 * 1024;
/** Of one core: whatever comes, this is left to the workload. */
const MOST_CPU = 0.5;

/** Who waits outside, and who within. */
export class Siege {
  #begun = { at: 0, cpu: 0 };

  private constructor(
    readonly mesh: Mesh,
    readonly control: HostileControl,
    /** What is called. */
    readonly basket: MeshSidecar,
    /** Who is besieged. */
    readonly web: MeshSidecar,
    private readonly real: string,
  ) {}

  /** `services` are known to `web`, all of them offered by `basket`. */
  static async prepare(
    t: ExecutionContext,
    services: readonly string[] = ['basket'],
    flags: Readonly<Record<string, string>> = {},
  ): Promise<Siege> {
    const authority = await Authority.create(t);
    const mesh = await Mesh.start(t, { issuer: await authority.issuer() });
    const certificate = await authority.sign({ names: ['URI:spiffe://mesh.test/ns/mesh/sa/control'] });
    const control = await HostileControl.start(t, certificate, authority.root);
    const origin = await httpOrigin(t, (incoming, outgoing) => void outgoing.end(incoming.url));
    const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
    for (const service of services) mesh.serve(service, [basket.address], 3000, 'auto', 'basket');
    const [real = ''] = mesh.control.addresses;
    const web = await mesh.sidecar(t, 'web', {
      flags: { ...flags, '--control': `${real},${control.address}` },
    });
    for (const service of services) t.is((await ask(web, '/', service)).status, 200, service);
    return new Siege(mesh, control, basket, web, real);
  }

  /** The honest control plane goes, and there is the other one. */
  async begin(): Promise<void> {
    await this.control.open();
    this.#begun = { at: performance.now(), cpu: this.web.process.cpuSeconds() };
    await this.mesh.control.close();
    await this.web.process.said(/the control plane is gone/);
  }

  /** Asserts that it serves, and took no more than its share. */
  async endures(t: ExecutionContext, services: readonly string[] = ['basket']): Promise<void> {
    for (const service of services) t.is((await ask(this.web, '/', service)).status, 200, service);
    const peak = this.web.process.peakBytes();
    t.true(peak < MOST_BYTES, `${peak} bytes`);
    const seconds = (performance.now() - this.#begun.at) / 1000;
    const cpu = this.web.process.cpuSeconds() - this.#begun.cpu;
    t.true(cpu < 1 + seconds * MOST_CPU, `${cpu} s of CPU in ${seconds} s`);
    t.log(`${Math.round(peak / 1024 / 1024)} MB, ${cpu.toFixed(2)} s of CPU in ${seconds.toFixed(1)} s`);
  }

  /** What a counter or gauge of `web` about its control plane says. */
  counts(what: string): Promise<number> {
    const name = `mesh_control_plane_${what}`.replace(/[{}]/g, String.raw`\$&`);
    return numberOf(this.web, new RegExp(`^${name} (\\d+)$`, 'm'));
  }

  /** The honest one comes back: the sidecar finds it, and believes it. */
  async ends(t: ExecutionContext): Promise<void> {
    this.mesh.events.length = 0;
    await this.mesh.open(this.real);
    this.mesh.serve('basket', [this.basket.address]);
    this.control.dismiss();
    await this.mesh.happened('ready', (event) => (event['sidecar'] as { name: string }).name === 'web');
    t.is((await ask(this.web)).status, 200);
  }
}

export const BASKET = 'basket.shop:3000';
export const BASKET_ID = idOf('basket');
