// Is a real sidecar driven by go-control-plane's server, which knows nothing of ours but the certificates?

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type MeshSidecar, Mesh, ask, idOf, startMeshSidecar } from '../mesh/support.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { type Running, start } from '../support/processes.js';
import { PATIENCE_MS, until } from '../support/wait.js';

const PROGRAM = process.env['TEST_GO_CONTROL_PLANE'] ?? '';
const testWithGo = existsSync(PROGRAM) ? test : test.skip;

/** go-control-plane as a process. What it says is read from where it was read last. */
class GoControlPlane {
  #read = 0;

  private constructor(readonly process: Running) {}

  static async start(t: ExecutionContext, listen: string, flags: readonly string[]): Promise<GoControlPlane> {
    const plane = new GoControlPlane(start(t, PROGRAM, ['-listen', listen, ...flags]));
    await plane.says(/^port \d+$/m);
    return plane;
  }

  /** Sets all there is: these names, each with one endpoint. Resolves with the place from which on it speaks of them. */
  async set(version: number, port: number, ...names: readonly string[]): Promise<number> {
    const from = this.#read;
    this.process.child.stdin.write(`set ${version} ${port} ${names.join(' ')}\n`);
    await this.says(new RegExp(`^done ${version}$`, 'm'));
    return from;
  }

  /** All that it has said. */
  said(): string {
    return this.process.stdout().toString();
  }

  async says(pattern: RegExp, from = this.#read): Promise<string> {
    return until(`go-control-plane says ${pattern}`, () => {
      if (this.process.ended) throw new Error(this.process.stderr());
      const match = pattern.exec(this.said().slice(from));
      if (!match) return;
      this.#read = Math.max(this.#read, from + match.index + match[0].length);
      return match[0];
    });
  }
}

/** A sidecar that was enrolled by our control plane and finds go-control-plane at its address. */
class Change {
  private constructor(
    readonly sidecar: MeshSidecar,
    private readonly t: ExecutionContext,
    private readonly listen: string,
    private readonly flags: readonly string[],
  ) {}

  static async begin(t: ExecutionContext): Promise<Change> {
    const authority = await Authority.create(t);
    const mesh = await Mesh.start(t, { issuer: await authority.issuer() });
    const [listen = ''] = mesh.control.addresses;
    const kept = { '--state-dir': join(temporaryFolder(t), 'state') };
    const enrolled = await mesh.sidecar(t, 'web', { flags: kept });
    await enrolled.process.kill();
    await mesh.control.close();
    const { certificate, key } = await authority.sign({
      names: ['URI:spiffe://mesh.test/ns/mesh/sa/control'],
    });
    const sidecar = await startMeshSidecar(t, {
      identity: idOf('web'),
      name: 'web',
      control: [listen],
      trustAnchors: authority.root,
      token: '/nonexistent',
      flags: kept,
    });
    const flags = ['-certificate', certificate, '-key', key, '-roots', authority.root];
    return new Change(sidecar, t, listen, flags);
  }

  go(...flags: readonly string[]): Promise<GoControlPlane> {
    return GoControlPlane.start(this.t, this.listen, [...this.flags, ...flags]);
  }

  /** Calls the name until its status and text are such. */
  async answers(name: string, expected: RegExp): Promise<void> {
    let last = '';
    const asks = async () => {
      const answer = await ask(this.sidecar, '/', name);
      last = `${answer.status} ${answer.text}`;
      return expected.test(last);
    };
    await until(`${name} to answer ${expected}`, asks).catch((error: unknown) => {
      throw new Error(`${String(error)}; last: ${last}; ${this.sidecar.process.stderr()}`);
    });
  }
}

/** Two servers that say their names. */
const servers = async (t: ExecutionContext) =>
  Promise.all(['one', 'two'].map((name) => httpOrigin(t, (_, outgoing) => void outgoing.end(name))));

const forms = {
  'incremental xDS': { flags: [], nack: /^nack Cluster .*$/m },
  'states of the world': { flags: ['-whole'], nack: /^whole nack Cluster "2" .*$/m },
};

for (const [form, { flags, nack }] of Object.entries(forms)) {
  testWithGo(`go-control-plane drives a sidecar by ${form}`, async (t) => {
    t.timeout(6 * PATIENCE_MS);
    const [one, two] = await servers(t);
    if (!one || !two) return t.fail();
    const change = await Change.begin(t);
    let go = await change.go(...flags);
    await go.set(1, one.port, 'basket', 'billing');
    await change.answers('basket', /^200 one$/);
    await change.answers('billing', /^200 one$/);

    await go.set(2, two.port, 'basket', 'billing');
    await change.answers('basket', /^200 two$/);

    // What is bad is refused with its reason, and what was good serves; so does what is bad no more.
    const third = await go.set(3, two.port, 'bad:basket', 'billing');
    t.regex(await go.says(nack, third), /basket: type: expected EDS/);
    await change.answers('basket', /^200 two$/);
    t.is(change.sidecar.process.stderr().match(/a resource was refused/g)?.length, 1);
    await go.set(4, one.port, 'basket', 'billing');
    await change.answers('basket', /^200 one$/);

    // What is there no more is reached no more.
    await go.set(5, one.port, 'basket');
    await change.answers('billing', /^403 /);
    await change.answers('basket', /^200 one$/);

    // A control plane of xDS alone has no reports: that is said once, and it is not asked over and over.
    const reports = /^unknown \/mesh\.v1\.Sidecar\/Report$/gm;
    // What it says of a stream may come later than what it answers on another.
    const counted = (what: RegExp, least: number): Promise<number> =>
      until(String(what), () => {
        const count = go.said().match(what)?.length ?? 0;
        return count >= least ? count : undefined;
      });
    t.is(await counted(reports, 1), 1);

    // It ends, and what is known goes on; it comes back, and is heard in the same form.
    await go.process.kill();
    await change.sidecar.process.said(/the control plane is gone/);
    await change.answers('basket', /^200 one$/);
    go = await change.go(...flags);
    await go.set(6, two.port, 'basket');
    await change.answers('basket', /^200 two$/);
    t.is(await counted(reports, 1), 1);
    t.is(await counted(/^refused incremental$/gm, flags.length), flags.length);
    t.is(change.sidecar.process.stderr().match(/takes no reports/g)?.length, 1);
  });
}
