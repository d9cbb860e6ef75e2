// Does a sidecar's log tell who would be denied by which policy before it is enforced, and who is denied then?

import test from 'ava';
import type { AuthorizationPolicy } from '../../src/config/resources.js';
import type { Edge } from '../../src/mesh/control-plane.js';
import { httpOrigin } from '../support/http.js';
import { connect } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { Mesh, ask, idOf } from './support.js';

const readers = (mode: 'audit' | 'enforce'): AuthorizationPolicy => ({
  name: 'readers',
  targets: [{ kind: 'listener', value: 'inbound' }],
  action: 'allow',
  mode,
  rules: [{ from: [{ kind: 'identity', value: idOf('till') }] }],
});

test('what a policy would deny passes and is told; what it denies is told too', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t, (_, outgoing) => void outgoing.end('done'));
  const ports = `3001=${origin.address},3000=${origin.address}`;
  const basket = await mesh.sidecar(t, 'basket', { ports });
  mesh.serve('basket', [basket.address]);
  const web = await mesh.sidecar(t, 'web');
  const call = async () => (await ask(web, '/items?key=secret')).status;

  mesh.protect('basket', [readers('audit')]);
  const [would] = await until('the line', async () => {
    t.is(await call(), 200);
    return /^.*would be denied.*$/m.exec(basket.process.stderr()) ?? undefined;
  });
  const what = `policy=readers why=no_rule listener=inbound port=3000 caller=${idOf('web')} method=GET path=/items`;
  t.is(would, `mesh-sidecar: warning: a caller would be denied ${what}`);
  const told = (mode: string) => ({
    kind: 'policy',
    identity: idOf('basket'),
    node: 'basket',
    mode,
    why: 'no_rule',
    policies: ['readers'],
    port: 3000,
    caller: idOf('web'),
    method: 'GET',
    path: '/items',
  });
  const happened = async (mode: string) => {
    const { unsaid, ...event } = await mesh.happened('policy', (one) => one['mode'] === mode);
    t.is(typeof unsaid, 'number');
    t.deepEqual(event, told(mode));
  };
  await happened('audit');
  const edge = (is: (edge: Edge) => boolean) =>
    until('the edge', () =>
      mesh.control.edges().find((one) => one.direction === 'inbound' && one.peer === idOf('web') && is(one)),
    );
  t.is((await edge(({ audited }) => audited > 0)).port, 3000);
  mesh.protect('basket', [readers('enforce')]);
  await until('the refusal', async () => (await call()) === 403);
  t.is((await edge(({ denied }) => denied > 0)).port, 3000, 'though it reached none');
  const [was] = await basket.process.said(/^.*was denied.*$/m);
  t.is(was, `mesh-sidecar: warning: a caller was denied ${what}`);
  await happened('enforce');
  t.notRegex(basket.process.stderr(), /secret/);
  const stream = await until('a stream of bytes, of nobody', async () => {
    const peer = await connect(t, basket.inbound);
    await peer.send('hello\n');
    await peer.gone();
    return mesh.events.find(({ kind, method }) => kind === 'policy' && method === null);
  });
  t.like(stream, { mode: 'enforce', why: 'no_rule', policies: ['readers'], path: null });
  t.regex(String(stream['caller']), /^127\.0\.0\.1\b/);
});
