// What does a sidecar say when nobody renews its certificate? It takes the minute that the shortest one lives.

import test from 'ava';
import { request } from '../support/http.js';
import { until } from '../support/wait.js';
import { Mesh } from './support.js';

const MINUTE = 60_000;

test('less than a fifth of its life is a warning, and its end no readiness', async (t) => {
  t.timeout(3 * MINUTE);
  const mesh = await Mesh.start(t, { certificateTtlMs: MINUTE });
  const web = await mesh.sidecar(t, 'web');
  const ready = () => request(web.admin, { path: '/ready' });
  t.is((await ready()).text, 'ready\n');
  await mesh.control.close();
  const ending = await until(
    'a warning',
    async () => {
      const answer = await ready();
      return answer.text !== 'ready\n' && answer;
    },
    2 * MINUTE,
  );
  t.is(ending.status, 200);
  t.regex(
    ending.text,
    /^ready\nwarning: the certificate ends in \d+ s, and should have been renewed by now\n$/,
  );
  const ended = await until(
    'its end',
    async () => {
      const answer = await ready();
      return answer.status === 503 && answer;
    },
    MINUTE,
  );
  t.is(ended.text, 'the certificate has ended: no workload believes this one\n');
  await web.process.said(/the certificate has ended/);
  const said = web.process.stderr();
  t.is(said.match(/the certificate should have been renewed by now/g)?.length, 1, said);
  t.is(said.match(/the certificate has ended/g)?.length, 1, said);
});
