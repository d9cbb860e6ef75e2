// What of a token that is spent while a control plane makes room for another one of its process?

import { closeSync, openSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { makeIssuer } from '../../src/controller/vault.js';
import { startControlPlane } from '../../src/mesh/native-control-plane.js';
import { pipe, temporaryFolder } from '../support/files.js';
import { startMeshSidecar } from './support.js';

const SETTINGS = { trustDomain: 'mesh.local', certificateTtlMs: 60_000 };
const WEB = 'spiffe://mesh.local/ns/default/sa/web';
/** The threads that this process has for work beside its own. */
const POOL = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4);

/** Keeps all of them busy until the end. */
function holdPool(t: ExecutionContext): () => Promise<void> {
  const file = pipe(t);
  // Nobody writes there.
  const held = Array.from({ length: POOL }, () => open(file));
  let ended: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    const writer = openSync(file, 'w');
    for (const handle of await Promise.all(held)) await handle.close();
    closeSync(writer);
  };
  const endOnce = (): Promise<void> => (ended ??= end());
  t.teardown(endOnce);
  return endOnce;
}

test('a token that is spent until the last moment is no more for the next one', async (t) => {
  const { issuer } = await makeIssuer(startControlPlane, SETTINGS);
  const folder = temporaryFolder(t);
  const [trustAnchors, token] = [join(folder, 'roots.pem'), join(folder, 'token')];
  writeFileSync(trustAnchors, issuer.roots);
  const begin = async (tokens?: string) => {
    const known = tokens === undefined ? {} : { tokens };
    const settings = { ...SETTINGS, listen: ['127.0.0.1:0'], issuer, onEvent: () => {} };
    const plane = await startControlPlane({ ...settings, ...known });
    t.teardown(() => plane.close());
    return plane;
  };
  const joins = ({ addresses }: { addresses: readonly string[] }, name: string) => {
    const asks = { identity: WEB, name, control: addresses, trustAnchors, token };
    return startMeshSidecar(t, { ...asks, ready: false });
  };
  const first = await begin();
  writeFileSync(token, first.issueToken(WEB, { uses: 1, ttlMs: 600_000 }), { mode: 0o600 });
  const freePool = holdPool(t);
  const closing = first.close();
  await (await joins(first, 'one')).process.said(/a certificate came/);
  await freePool();
  const second = await begin(await closing);
  await (await joins(second, 'two')).process.said(/the token is not known/);
  t.pass();
});
