// Does the operator's own issuer sign, and what is told when its files make no sense?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { IssuerFiles } from '../../src/controller/issuer-files.js';
import type { IssuerPem } from '../../src/controller/vault.js';
import { ConfigError, StateError } from '../../src/errors.js';
import { createControlPlane } from '../../src/index.js';
import { Etcd } from '../discovery/support.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { must, run, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { ask, freePort, startMeshSidecar } from './support.js';

const MESH = join(process.cwd(), 'dist', 'cli', 'main.js');
const FILES = { chain: 'issuer.crt', key: 'issuer.key', roots: 'root.crt' };
const identityOf = (service: string): string => `spiffe://mesh.local/ns/default/sa/${service}`;

/** An operator's folder: the issuer's files, without the root's key. */
async function folderOf(t: ExecutionContext, mesh: object = {}): Promise<string> {
  const folder = temporaryFolder(t);
  const issuer = await (await Authority.create(t)).issuer();
  for (const [part, file] of Object.entries(FILES)) {
    writeFileSync(join(folder, file), issuer[part as keyof typeof FILES], { mode: 0o600 });
  }
  const config = {
    mesh: { certificates: { issuer: FILES }, ...mesh },
    services: { web: {}, basket: { port: 3000 } },
  };
  writeFileSync(join(folder, 'mesh.yaml'), JSON.stringify(config));
  return folder;
}

/** A sidecar that believes the operator's root, with a token in its file. */
function joins(
  t: ExecutionContext,
  folder: string,
  service: string,
  control: string,
  text: string,
  ports = '',
) {
  const token = join(temporaryFolder(t), 'token');
  writeFileSync(token, text.trim(), { mode: 0o600 });
  return startMeshSidecar(t, {
    identity: identityOf(service),
    name: service,
    control: [control],
    trustAnchors: join(folder, FILES.roots),
    token,
    ...(ports !== '' && { ports }),
  });
}

test('mesh control signs with the issuer that the mesh file names', async (t) => {
  const folder = await folderOf(t);
  const listen = `127.0.0.1:${await freePort()}`;
  const options = { cwd: folder, env: cleanEnvironment() };
  const control = start(t, process.execPath, [MESH, 'control', '--listen', listen], options);
  await until('it listens', () => {
    if (control.ended) throw new Error(control.stderr());
    return control.stdout().toString().includes('listens on');
  });
  const token = (service: string) => must(process.execPath, [MESH, 'token', service], options);
  const { address } = await httpOrigin(t);
  await joins(t, folder, 'basket', listen, await token('basket'), `3000=${address}`);
  const web = await joins(t, folder, 'web', listen, await token('web'));
  await until('an answer', async () => (await ask(web)).status === 200);
  t.pass();
});

test('several control planes over one etcd take it too, and no key for etcd', async (t) => {
  const etcd = await Etcd.start(t);
  const shared = { etcd: { endpoints: etcd.url, prefix: '/mesh/control/' } };
  const folder = await folderOf(t);
  const issuer = Object.fromEntries(Object.entries(FILES).map(([part, file]) => [part, join(folder, file)]));
  const open = async () => {
    const config = {
      mesh: { certificates: { issuer: issuer as typeof FILES }, shared },
      services: { web: {} },
    };
    const plane = createControlPlane(config, { listen: '127.0.0.1:0' });
    t.teardown(() => plane.close());
    return { plane, addresses: await plane.listen() };
  };
  const [one, two] = [await open(), await open()];
  t.is(one.plane.roots(), two.plane.roots());
  const given = {
    instanceOf: StateError,
    message: /^the issuer is given: give it another one; docs\/identity\.md/,
  };
  t.throws(() => one.plane.rotateIssuer(), given);
  t.throws(() => one.plane.rotateRoot(), given);
  await joins(t, folder, 'web', two.addresses[0] ?? '', await one.plane.token('web'));
  t.false((await etcd.texts('/mesh/control/authority')).length > 0);
  t.throws(() => createControlPlane({ mesh: { shared }, services: { web: {} } }), {
    instanceOf: ConfigError,
    message: /mesh\.shared.*nothing encrypts the issuer that is shared.*write keyFile/s,
  });
});

test('files that can not be read are named, and others that come are taken', async (t) => {
  const folder = await folderOf(t);
  const plan = {
    chain: join(folder, FILES.chain),
    key: join(folder, FILES.key),
    roots: join(folder, FILES.roots),
  };
  const renewed: string[] = [];
  const failed: unknown[] = [];
  const known: { serving?: IssuerPem } = {};
  let served = 0;
  const files = new IssuerFiles(plan, {
    serving: () => known.serving,
    served: () => (served += 1),
    renewed: ({ chain }) => renewed.push(chain),
    failed: (error) => failed.push(error),
  });
  t.teardown(() => files.close());
  known.serving = await files.issuer();
  await files.look();
  t.deepEqual(renewed, []);
  t.is(served, 1);
  const next = await (await Authority.create(t)).issuer();
  writeFileSync(plan.chain, next.chain);
  await files.look();
  t.deepEqual(renewed, [next.chain]);
  // Whoever was told may have been unable to take it.
  await files.look();
  t.deepEqual(renewed, [next.chain, next.chain]);
  t.deepEqual(failed, []);
  const lost = new IssuerFiles(
    { ...plan, key: join(folder, 'lost.key') },
    {
      serving: () => undefined,
      served: () => {},
      renewed: () => {},
      failed: (error) => failed.push(error),
    },
  );
  await t.throwsAsync(lost.issuer(), {
    instanceOf: StateError,
    message: /^mesh\.certificates\.issuer\.key: .*lost\.key: there is no such file$/,
  });
  await lost.look();
  t.true(failed[0] instanceof StateError);
});

test('a key of another issuer is an error at the start', async (t) => {
  const folder = await folderOf(t);
  const other = await (await Authority.create(t)).issuer();
  writeFileSync(join(folder, FILES.key), other.key);
  const args = [MESH, 'control', '--listen', '127.0.0.1:0'];
  const { code, stderr } = await run(process.execPath, args, { cwd: folder, env: cleanEnvironment() });
  t.is(code, 64);
  t.is(stderr, "error: the key is not the issuer's\n");
});
