// Who is let in by what a platform says of it? Real sidecars that send a file, and attestors in TypeScript.

import { generateKeyPairSync, sign } from 'node:crypto';
import { copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ControlEvent, type Evidence, createControlPlane } from '../../src/index.js';
import type { MeshControlOptions } from '../../src/controller/types.js';
import type { CertificateRequest } from '../../src/mesh/control-plane.js';
import { decided } from '../../src/mesh/decisions.js';
import { Etcd } from '../discovery/support.js';
import { Ports, Shell, example } from '../docs/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { Mesh, ask, idOf, startMeshSidecar } from './support.js';

/** The kind of evidence of these tests. */
const KIND = 'test.platform-1';

/** What a platform says, in a file. */
class Statement {
  readonly file: string;

  constructor(t: ExecutionContext, says: string | Uint8Array = 'good') {
    this.file = join(temporaryFolder(t), 'evidence');
    this.replace(says);
  }

  /** As platforms do it: whoever reads finds the old or the new one. */
  replace(says: string | Uint8Array): void {
    writeFileSync(`${this.file}.new`, says, { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
  }

  get flag(): string {
    return `${KIND}=${this.file}`;
  }
}

/** Believes whatever says that it is good. */
const attest = ({ evidence }: Evidence) =>
  Buffer.from(evidence).toString() === 'good'
    ? { allow: true as const }
    : { allow: false as const, reason: 'the platform does not know it' };

/** The last audit of a service. */
const audited = (mesh: Mesh, service: string): Promise<ControlEvent> =>
  mesh.happened('audit', ({ identity }) => identity === idOf(service));

test('evidence that is believed makes a sidecar ready, and able to call', async (t) => {
  const seen: Evidence[] = [];
  const asked: CertificateRequest[] = [];
  const mesh = await Mesh.start(t, {
    attest: (evidence) => {
      seen.push(evidence);
      return { allow: true, ttlMs: 120_000 };
    },
    decide: (request) => {
      asked.push(request);
      return { allow: true, ttlMs: 600_000 };
    },
  });
  const origin = await httpOrigin(t);
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  mesh.serve('basket', [basket.address]);
  const says = Buffer.from([0, 255, 10, ...Buffer.alloc(64 * 1024 - 3, ' ')]);
  const web = await mesh.sidecar(t, 'web', { attestation: new Statement(t, says).flag });
  t.is((await ask(web)).status, 200);
  t.is(seen.length, 1);
  t.like(seen[0], { kind: KIND, identity: idOf('web') });
  t.regex(seen[0]?.address ?? '', /^127\.0\.0\.1:\d+$/);
  t.true(says.equals(seen[0]?.evidence ?? Buffer.of()), 'byte for byte');
  const proofs = asked.map(({ identity, proof, attestation }) => [identity, proof, attestation?.kind]);
  t.deepEqual(proofs, [
    [idOf('basket'), 'token', undefined],
    [idOf('web'), 'attestation', KIND],
  ]);
  const audit = await audited(mesh, 'web');
  t.like(audit, { proof: 'attestation', refused: null });
  const life = Number(audit['notAfterMs']) - Number(audit['timeMs']);
  t.true(life > 0 && life <= 121_000, `the shorter life holds: ${life}`);
});

test('evidence that is not believed is refused with its reason', async (t) => {
  const mesh = await Mesh.start(t, { attest });
  const attestation = new Statement(t, 'bad').flag;
  const web = await mesh.sidecar(t, 'web', { attestation, ready: false });
  await web.process.said(/no certificate.*denied: the platform does not know it/);
  const refused = 'denied: the platform does not know it';
  t.like(await audited(mesh, 'web'), { proof: 'attestation', refused, serial: null });
  // It did not ask for more: tokens are what they are without `decide`, and no more.
  await mesh.sidecar(t, 'till');
  const token = join(temporaryFolder(t), 'token');
  writeFileSync(token, `mesh-token-${'0'.repeat(64)}`);
  const thief = await mesh.sidecar(t, 'thief', { token, ready: false });
  await thief.process.said(/no certificate.*token_unknown/);
});

test('a control plane that allows everybody lets in nobody whom nobody attests', async (t) => {
  const asked: string[] = [];
  const mesh = await Mesh.start(t, {
    decide: ({ identity, proof }) => {
      asked.push(`${identity} ${proof}`);
      return { allow: true };
    },
  });
  const attestation = new Statement(t).flag;
  const web = await mesh.sidecar(t, 'web', { attestation, ready: false });
  await web.process.said(/no certificate.*nobody attests test\.platform-1.*mend=".*attestor.*"/);
  t.like(await audited(mesh, 'web'), {
    proof: 'attestation',
    refused: `no_attestor: nobody attests ${KIND}`,
    serial: null,
  });
  await mesh.sidecar(t, 'till');
  t.deepEqual(asked, [`${idOf('till')} token`]);
});

test('who decides can refuse what is attested, and never admits what is not', async (t) => {
  const mesh = await Mesh.start(t, {
    attest,
    decide: ({ identity }) =>
      identity === idOf('till') ? { allow: false, reason: 'not today' } : { allow: true },
  });
  const till = await mesh.sidecar(t, 'till', { attestation: new Statement(t).flag, ready: false });
  await till.process.said(/no certificate.*denied: not today/);
  const attestation = new Statement(t, 'bad').flag;
  const web = await mesh.sidecar(t, 'web', { attestation, ready: false });
  await web.process.said(/no certificate.*denied: the platform does not know it/);
  await mesh.sidecar(t, 'basket', { attestation: new Statement(t).flag });
  t.like(await audited(mesh, 'till'), { refused: 'denied: not today' });
});

test('the file is read anew for each request, and what is wrong with it is told', async (t) => {
  const mesh = await Mesh.start(t, { attest });
  const statement = new Statement(t, 'bad');
  const options = { attestation: statement.flag, ready: false };
  const web = await mesh.sidecar(t, 'web', options);
  await web.process.said(/no certificate.*the platform does not know it/);
  statement.replace(Buffer.alloc(64 * 1024 + 1));
  await web.process.said(/--attestation: \/.*\/evidence: it has more than 65536 bytes/);
  statement.replace('');
  await web.process.said(/--attestation: \/.*\/evidence: it is empty/);
  t.notRegex(web.process.stderr(), /^mesh-sidecar: ready$/m);
  statement.replace('good');
  await web.process.said(/^mesh-sidecar: ready$/m);
  t.is(mesh.events.filter(({ kind, refused }) => kind === 'audit' && refused === null).length, 1);
});

test('an attestor that never answers has refused', async (t) => {
  const mesh = await Mesh.start(t, { attest: () => new Promise(() => {}) });
  const web = await mesh.sidecar(t, 'web', { attestation: new Statement(t).flag, ready: false });
  await web.process.said(/no certificate.*undecided/);
  t.like(await audited(mesh, 'web'), { refused: 'undecided: nobody decided in time', serial: null });
});

test('what is no decision admits nobody', async (t) => {
  const request: CertificateRequest = {
    identity: idOf('web'),
    proof: 'attestation',
    attestation: { kind: KIND, evidence: Buffer.from('good') },
    address: '127.0.0.1:1',
  };
  const good = { allow: true as const };
  const wrong: unknown[] = [
    undefined,
    null,
    true,
    'yes',
    [],
    {},
    { allow: 'yes' },
    { allow: 1 },
    ...[0, -1, Number.NaN, Infinity, '60000'].map((ttlMs) => ({ allow: true, ttlMs })),
  ];
  for (const answer of wrong) {
    const says = () => answer as typeof good;
    t.false((await decided({ attest: says }, request)).allow, String(answer));
    t.false((await decided({ attest, decide: says }, request)).allow, String(answer));
    t.false((await decided({ decide: says }, { ...request, proof: 'token' })).allow, String(answer));
  }
  const fails = () => Promise.reject(new Error('the platform is gone'));
  t.deepEqual(await decided({ attest: fails }, request), { allow: false, reason: 'the platform is gone' });
  t.false((await decided({ decide: () => good }, request)).allow);
  t.false((await decided({ attest }, { ...request, proof: 'token' })).allow);
  t.deepEqual(await decided({ attest, decide: () => ({ ...good, ttlMs: 60_000.5 }) }, request), {
    allow: true,
    ttlMs: 60_001,
  });
});

for (const where of ['alone', 'over a shared etcd']) {
  test(`createControlPlane ${where}: an attestor admits, and nobody else does`, async (t) => {
    const folder = temporaryFolder(t);
    const keyFile = join(folder, 'operator.key');
    writeFileSync(keyFile, 'a key of the operator, which is long enough');
    const etcd = where === 'alone' ? undefined : { endpoints: (await Etcd.start(t)).url, prefix: '/mesh/' };
    const config = {
      ...(etcd && { mesh: { shared: { etcd, keyFile } } }),
      services: { basket: { port: 3000 }, web: {} },
    };
    const audits = new Set<string>();
    const open = async (name: string, options: MeshControlOptions) => {
      const control = createControlPlane(config, { listen: '127.0.0.1:0', ...options });
      t.teardown(() => control.close());
      control.on('control', ({ kind, proof, refused }) => {
        if (kind === 'audit')
          audits.add(`${options.attest ? 'attest' : ''} ${String(proof)}: ${String(refused)}`);
      });
      const addresses = await control.listen();
      const trustAnchors = join(folder, `${name}.pem`);
      writeFileSync(trustAnchors, control.roots());
      return (service: string, ready: boolean, more: { token?: string; attestation?: string }) => {
        const identity = `spiffe://mesh.local/ns/default/sa/${service}`;
        const asked = { identity, name: service, control: addresses, trustAnchors, ready };
        return startMeshSidecar(t, { ...asked, ...more });
      };
    };
    const attestation = new Statement(t).flag;
    const decide = () => ({ allow: true as const });
    const careful = await open('careful', { attest });
    await careful('web', true, { attestation });
    const unknown = await careful('web', false, { attestation: new Statement(t, 'bad').flag });
    await unknown.process.said(/no certificate.*denied: the platform does not know it/);
    const token = join(folder, 'token');
    writeFileSync(token, `mesh-token-${'0'.repeat(64)}`);
    for (const options of [{}, { decide }, { attest }, { attest, decide }]) {
      const name = Object.keys(options).join('-');
      const joins = await open(name, options);
      const thief = await joins('web', false, { token });
      await thief.process.said(/no certificate.*the token is not known/);
      if ('attest' in options) continue;
      const claims = await joins('web', false, { attestation });
      await claims.process.said(new RegExp(`no certificate.*nobody attests ${KIND}`));
    }
    const unattested = ` attestation: no_attestor: nobody attests ${KIND}`;
    const believed = [
      'attest attestation: null',
      'attest attestation: denied: the platform does not know it',
    ];
    const attested = [...audits].filter((audit) => audit.includes(' attestation: '));
    t.deepEqual(attested.toSorted(), [unattested, ...believed.toSorted()]);
    t.true(
      [...audits].filter((audit) => audit.includes(' token: ')).every((audit) => audit.endsWith('not known')),
    );
  });
}

test('docs/identity.md: an attestor of yours', async (t) => {
  const ports = new Ports();
  const shell = await Shell.open(t, ports);
  const { folder } = shell;
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  writeFileSync(join(folder, 'platform.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
  const statement = (claims: object, key = privateKey): Statement => {
    const coded = [{ alg: 'EdDSA' }, claims].map((part) =>
      Buffer.from(JSON.stringify(part)).toString('base64url'),
    );
    const text = coded.join('.');
    return new Statement(t, `${text}.${sign(null, Buffer.from(text), key).toString('base64url')}\n`);
  };
  const code = (await ports.in(example('docs/identity.md', 'attestor'))).replaceAll(
    /'(\w+\.pem)'/g,
    (_, name: string) => JSON.stringify(join(folder, name)),
  );
  const env = cleanEnvironment();
  const control = start(t, process.execPath, ['--input-type=module', '-e', code], { env });
  const trustAnchors = join(folder, 'roots.pem');
  await until('the roots', () => {
    if (control.ended) throw new Error(control.stderr());
    // A file that is there may be empty yet.
    return (
      existsSync(trustAnchors) && readFileSync(trustAnchors, 'utf8').endsWith('-----END CERTIFICATE-----\n')
    );
  });
  const sub = 'spiffe://mesh.local/ns/default/sa/web';
  const good = { sub, aud: 'mesh', exp: Date.now() / 1000 + 600 };
  const joins = async (of: Statement, kind = 'platform') =>
    startMeshSidecar(t, {
      identity: sub,
      name: 'web',
      control: [`127.0.0.1:${await ports.of('4144')}`],
      trustAnchors,
      attestation: `${kind}=${of.file}`,
      ready: false,
    });
  copyFileSync(statement(good).file, join(folder, 'web.jwt'));
  await (await shell.stay(example('docs/identity.md', 'attested'))).said(/^mesh-sidecar: ready$/m);
  const refusals: [RegExp, Statement, string?][] = [
    [/nobody attests other/, statement(good), 'other'],
    [/the platform has not signed it/, statement(good, generateKeyPairSync('ed25519').privateKey)],
    [/the platform has not signed it/, new Statement(t, 'nonsense')],
    [/it is for somebody else/, statement({ ...good, sub: sub.replace('web', 'basket') })],
    [/it is for somebody else/, statement({ ...good, aud: 'another' })],
    [/it has expired/, statement({ ...good, exp: 1 })],
    [/it has expired/, statement({ sub, aud: 'mesh' })],
  ];
  for (const [reason, says, kind] of refusals) {
    const web = await joins(says, kind);
    await web.process.said(new RegExp(`no certificate.*denied: ${reason.source}`));
    t.notRegex(web.process.stderr(), /^mesh-sidecar: ready$/m);
    await web.process.kill();
  }
});
