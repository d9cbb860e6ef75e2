// Two sidecars of one service and name: are both told, and `mesh check` too, and do they come back ever more slowly?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { type Running, type Said, must, run, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { PATIENCE_MS, until, within } from '../support/wait.js';
import { type MeshSidecar, freePort, startMeshSidecar } from './support.js';

const MAIN = join(process.cwd(), 'dist', 'cli', 'main.js');
const IDENTITY = 'spiffe://mesh.local/ns/default/sa/basket';

/** A control plane, as it is started by hand, and sidecars of `basket`. */
class Shop {
  private constructor(
    readonly t: ExecutionContext,
    readonly folder: string,
    readonly listen: string,
    readonly application: string,
    readonly control: Running,
  ) {}

  static async start(t: ExecutionContext): Promise<Shop> {
    const { address } = await httpOrigin(t);
    const [folder, listen] = [temporaryFolder(t), `127.0.0.1:${await freePort()}`];
    writeFileSync(join(folder, 'mesh.yaml'), JSON.stringify({ services: { basket: { port: 3000 } } }));
    const args = [MAIN, 'control', '--listen', listen];
    const control = start(t, process.execPath, args, { cwd: folder, env: cleanEnvironment() });
    const shop = new Shop(t, folder, listen, address, control);
    await until('it listens', () => {
      if (control.ended) throw new Error(control.stderr());
      return shop.said().includes('listens on');
    });
    return shop;
  }

  /** What the control plane printed. */
  said(): string {
    return this.control.stdout().toString();
  }

  type(...args: string[]): Promise<Said> {
    return run(process.execPath, [MAIN, ...args], { cwd: this.folder, env: cleanEnvironment() });
  }

  async sidecar(name: string, flags: Readonly<Record<string, string>> = {}): Promise<MeshSidecar> {
    const options = { cwd: this.folder, env: cleanEnvironment() };
    const token = join(temporaryFolder(this.t), 'token');
    writeFileSync(token, (await must(process.execPath, [MAIN, 'token', 'basket'], options)).trim(), {
      mode: 0o600,
    });
    return startMeshSidecar(this.t, {
      identity: IDENTITY,
      name,
      control: [this.listen],
      trustAnchors: join(this.folder, '.mesh', 'state', 'roots.pem'),
      token,
      ports: `3000=${this.application}`,
      flags,
    });
  }
}

const REPLACED =
  /another sidecar is called the same.* name="?basket-1"? again_in_ms="?(\d+)"? error=".*" mend="each copy of a service needs a --name of its own/g;

/** What is in force at a sidecar. */
const configOf = async ({ admin }: MeshSidecar): Promise<string> =>
  (await fetch(`http://127.0.0.1:${admin}/config`)).text();

/** How long a sidecar stays away, each time that it was replaced. */
const pausesOf = ({ process }: MeshSidecar): number[] =>
  [...process.stderr().matchAll(REPLACED)].map(([, ms]) => Number(ms));

test('sidecars that are called the same are told so, and come back ever more slowly', async (t) => {
  const shop = await Shop.start(t);
  const both = [await shop.sidecar('basket-1'), await shop.sidecar('basket-1')];
  const findings = await until('mesh check tells it', async () => {
    const { code, stdout } = await shop.type('check');
    return code === 1 && stdout.toString().includes('more than one') && stdout.toString();
  });
  t.true(
    findings.startsWith(
      `error: basket-1 is the name of more than one sidecar of ${IDENTITY}: only the one that came last is there, ` +
        'until another comes again; start each with a --name of its own, or without --name\n',
    ),
    findings,
  );
  t.regex((await shop.type('config', 'basket-1')).stdout.toString(), /^name: shared with another sidecar$/m);
  await until('each was replaced three times', () => both.every((one) => pausesOf(one).length >= 3));
  t.regex(shop.said(), /^basket-1: connected, .*; another one is called so too: give each a --name/m);
  for (const one of both) {
    const pauses = pausesOf(one).slice(0, 3);
    // By chance between a half and the whole.
    for (const [at, whole] of [1000, 2000, 4000].entries())
      t.true(Number(pauses[at]) >= whole / 2, String(pauses));
  }
});

test('a sidecar that stands aside goes by what changes meanwhile', async (t) => {
  const shop = await Shop.start(t);
  const both = [await shop.sidecar('basket-1'), await shop.sidecar('basket-1')];
  const { one, awayMs, sinceMs } = await until(
    'one stands aside for a while',
    () => {
      for (const each of both) {
        const lastMs = pausesOf(each).at(-1) ?? 0;
        if (lastMs >= 8000) return { one: each, awayMs: lastMs, sinceMs: performance.now() };
      }
      return undefined;
    },
    4 * PATIENCE_MS,
  );
  const policies = [{ name: 'meanwhile', to: 'basket', from: 'web', allow: ['GET /items'] }];
  writeFileSync(
    join(shop.folder, 'mesh.yaml'),
    JSON.stringify({ services: { web: {}, basket: { port: 3000 } }, policies }),
  );
  shop.control.signal('SIGHUP');
  await until('it is in force', async () => (await configOf(one)).includes('meanwhile'));
  const tookMs = performance.now() - sinceMs;
  t.true(tookMs < awayMs - 2000, `${tookMs} ms of ${awayMs}`);
  t.is(pausesOf(one).at(-1), awayMs, 'it was aside all the time');
});

test('a sidecar that is started anew shares its name with nobody', async (t) => {
  const shop = await Shop.start(t);
  const first = await shop.sidecar('basket-1');
  await first.process.kill();
  await shop.sidecar('basket-1');
  await until('all is well', async () => (await shop.type('check')).code === 0);
  t.notRegex((await shop.type('config', 'basket-1')).stdout.toString(), /shared/);
  t.notRegex(shop.said(), /called so too/);
});

test('a sidecar that drains leaves its name to the one that has come by it', async (t) => {
  const shop = await Shop.start(t);
  const first = await shop.sidecar('basket-1', { '--lame-duck': '15s' });
  first.process.signal('SIGTERM');
  await until('it drains', () => shop.said().includes('basket-1: draining'));
  const second = await shop.sidecar('basket-1');
  await first.process.said(/another sidecar is called the same/);
  t.is((await within('its end', first.process.exit)).code, 0);
  t.notRegex(second.process.stderr(), /another sidecar is called the same/);
  t.is((await shop.type('check')).code, 0);
});
