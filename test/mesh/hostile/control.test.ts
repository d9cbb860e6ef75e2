// What can a control plane do to a sidecar? It has the right certificate, and is broken, or somebody else's by now.

import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import test from 'ava';
import { Authority } from '../../support/certificates.js';
import { temporaryFolder } from '../../support/files.js';
import { httpOrigin, proxyStatus, request } from '../../support/http.js';
import { NameServer } from '../../support/name-server.js';
import { PATIENCE_MS, until } from '../../support/wait.js';
import { Mesh, ask, idOf, load } from '../support.js';
import { type Answer, HostileControl, denied, endpoints, prefix, response } from './control.js';
import { type Field, message } from './protobuf.js';
import { BASKET, BASKET_ID, MOST_BYTES, Siege } from './siege.js';

/** After it the silence of a server of xDS means that a name is unknown: 15 s in our subscriber. */
const DOES_NOT_EXIST_AFTER_MS = 15_000;
const MEGABYTE = 1024 * 1024;
const ROOTS = 'mesh/roots';

test('an update of 200 MB is refused by its length, again and again, ever more slowly', async (t) => {
  const siege = await Siege.prepare(t);
  const { control, web } = siege;
  control.behaviour = async (ads) => {
    await ads.write(prefix(200_000_000));
    const part = Buffer.alloc(MEGABYTE);
    for (let sent = 0; sent < 200 && !ads.closed; sent += 1) await ads.write(part);
  };
  await siege.begin();
  await web.process.said(/the control plane is gone.*a message of 200000000 bytes, 4194304 are taken/);
  await until('three tries', () => control.connections.length >= 3);
  const [first = 0, second = 0, third = 0] = control.connections;
  t.true(second - first > 450, `${second - first} ms`);
  t.true(third - second > 900, `${third - second} ms`);
  t.true((await siege.counts('connections_lost_total{reason="protocol"}')) >= 2);
  await siege.endures(t);
  await siege.ends(t);
});

test('250 MB in many messages, nothing of them asked for, pass by', async (t) => {
  const siege = await Siege.prepare(t);
  await siege.begin();
  const ads = await siege.control.stream();
  await ads.wants('cluster', BASKET);
  const resources = Array.from({ length: 1000 }, (_, number) => ({
    name: `nobody-${number}`,
    version: '1',
    bytes: Buffer.alloc(1000),
  }));
  let nonce = '';
  for (let sent = 0; sent < 250; sent += 1) nonce = await ads.respond('cluster', resources);
  t.is((await ads.answered(nonce)).nack, undefined);
  await siege.endures(t);
  await siege.ends(t);
});

test('a message that is small on the wire and large in memory is not read', async (t) => {
  const siege = await Siege.prepare(t);
  const { control } = siege;
  const empty = (number: number): Buffer => {
    const one = message([number, '']);
    return Buffer.alloc(one.length * 2_000_000, one);
  };
  const bombs = [2, 6].map((number) => Buffer.concat([response('cluster', 'n', []), empty(number)]));
  control.behaviour = async (ads) => {
    await ads.wants('endpoints', BASKET);
    const bomb = bombs[control.streams.length - 1];
    if (bomb) return ads.send(bomb);
    const bytes = Buffer.concat([message([1, BASKET]), empty(2)]);
    const nonce = await ads.respond('endpoints', [{ name: BASKET, version: '9', bytes }]);
    t.regex((await ads.answered(nonce)).nack ?? '', /holds too many fields/);
  };
  await siege.begin();
  await until('the third stream', () => control.streams[2]?.asked.some(({ nack }) => nack !== undefined));
  t.true((await siege.counts('connections_lost_total{reason="protocol"}')) >= 2);
  t.is(await siege.counts('resources_refused_total'), 1);
  await siege.endures(t);
  await siege.ends(t);
});

test('versions that flap thousands of times cost no request, and the last one counts', async (t) => {
  const siege = await Siege.prepare(t);
  await siege.begin();
  const { control, web, basket } = siege;
  const ads = await control.stream();
  await ads.wants('endpoints', BASKET);
  const requests = load(web);
  let nonce = '';
  for (let version = 0; version < 2000; version += 1) {
    const bytes = endpoints(BASKET, basket.address, BASKET_ID, 1 + (version % 2));
    nonce = await ads.respond('endpoints', [{ name: BASKET, version: String(version), bytes }]);
  }
  await ads.respond('endpoints', [{ name: BASKET, version: 'none', bytes: endpoints(BASKET) }]);
  t.is((await ads.answered(nonce)).nack, undefined);
  await until('the last one', async () => (await ask(web)).status === 503);
  const { bad } = await requests.stop();
  t.deepEqual(
    bad.filter((answer) => !answer.startsWith('503')),
    [],
  );
  t.true((await siege.counts('slowed_total')) > 0);
  nonce = await ads.respond('endpoints', [
    { name: BASKET, version: 'one', bytes: endpoints(BASKET, basket.address, BASKET_ID) },
  ]);
  await until('the last one of all', async () => (await ask(web)).status === 200);
  await siege.endures(t);
  await siege.ends(t);
});

test('a list of who is revoked that was cut off is no part of the next one', async (t) => {
  const siege = await Siege.prepare(t);
  const { control, web } = siege;
  const streams: Answer[] = [];
  control.tells = async (answer) => {
    if (streams.push(answer) > 1) return answer.send(denied([idOf('nobody')]));
    await answer.send(denied([BASKET_ID], true));
    // What it says of xDS comes later.
    const ads = await control.stream(1);
    const nonce = await ads.respond('cluster', []);
    await ads.answered(nonce);
    control.dismiss();
  };
  await siege.begin();
  const second = await until('a second stream', () => streams[1]);
  for (let asked = 0; asked < 50; asked += 1) t.is((await ask(web)).status, 200);
  await second.send(denied([BASKET_ID]));
  await until('a list that is whole', async () => (await ask(web)).status === 502);
  await second.send(denied([]));
  await until('another one', async () => (await ask(web)).status === 200);
  await siege.endures(t);
  await siege.ends(t);
});

const SERVICES = ['basket', 'till', 'bank', 'depot'];

test('all that is removed at once is held, a removal of one is not', async (t) => {
  const siege = await Siege.prepare(t, SERVICES);
  await siege.begin();
  const { control, web } = siege;
  const ads = await control.stream();
  const clusters = SERVICES.map((service) => `${service}.shop:3000`);
  await Promise.all(clusters.map((name) => ads.wants('cluster', name)));
  await ads.respond('listener', [], ['depot:80']);
  await until('the removal', async () => (await ask(web, '/', 'depot')).status !== 200);
  const rest = SERVICES.slice(0, 3);
  const nonces = [
    await ads.respond('routeTable', [], clusters),
    await ads.respond(
      'listener',
      [],
      SERVICES.map((service) => `${service}:80`),
    ),
    await ads.respond('endpoints', [], clusters),
    await ads.respond('cluster', [], clusters),
  ];
  for (const nonce of nonces) await ads.answered(nonce);
  await web.process.said(/the control plane removes most of what it has given/);
  t.true((await siege.counts('resources_held')) > 2 * rest.length);
  await siege.endures(t, rest);
  await siege.ends(t);
});

test('a bad resource is refused with its reason, and the last good one serves', async (t) => {
  const siege = await Siege.prepare(t);
  await siege.begin();
  const { control, web, basket } = siege;
  const ads = await control.stream();
  await ads.wants('endpoints', BASKET);
  const bad: [string, Field[], RegExp][] = [
    ['another type', [[1, BASKET]], /type: expected EDS/],
    ['no message at all', [[1, 7]], /not readable/],
  ];
  for (const [what, content, reason] of bad) {
    const nonce = await ads.respond('cluster', [{ name: BASKET, version: what, bytes: message(...content) }]);
    t.regex((await ads.answered(nonce)).nack ?? '', reason, what);
  }
  // A name where an address belongs, and roots that are none: then nobody would be believed.
  const name = endpoints(BASKET, 'basket.shop:80', BASKET_ID);
  const roots = message([1, ROOTS], [4, message([1, message([3, 'none'])])]);
  for (const [kind, resource, bytes, reason] of [
    ['endpoints', BASKET, name, /address/],
    ['secret', ROOTS, roots, /the trust bundle/],
  ] as const) {
    const nonce = await ads.respond(kind, [{ name: resource, version: 'bad', bytes }]);
    t.regex((await ads.answered(nonce)).nack ?? '', reason, kind);
  }
  await web.process.said(/a resource was refused: the last good one serves resource=basket\.shop:3000/);
  t.is(await siege.counts('resources_refused_total'), 4);
  await siege.endures(t);
  await ads.respond('endpoints', [{ name: BASKET, version: 'empty', bytes: endpoints(BASKET) }]);
  await until('no endpoints', async () => (await ask(web)).status === 503);
  await ads.respond('endpoints', [
    { name: BASKET, version: 'good', bytes: endpoints(BASKET, basket.address, BASKET_ID) },
  ]);
  await until('an endpoint', async () => (await ask(web)).status === 200);
  await siege.ends(t);
});

test('who calls by a resource that was refused, with no good one before, is told so at once', async (t) => {
  const siege = await Siege.prepare(t, ['basket', 'till']);
  await siege.begin();
  const { control, web, basket } = siege;
  const till = 'till.shop:3000';
  const ads = await control.stream();
  await ads.wants('endpoints', till);
  const told = async (host: string) => {
    const { status, headers } = await ask(web, '/', host);
    return `${status} ${proxyStatus(headers).details}`;
  };
  const unread = [{ name: 'depot:80', version: 'bad', bytes: message([1, 7]) }];
  const depot = told('depot');
  await ads.wants('listener', 'depot:80');
  await ads.respond('listener', unread);
  t.is(await depot, '503 config_refused', 'who was waiting');
  const { status, headers } = await ask(web, '/', 'depot');
  t.deepEqual([status, proxyStatus(headers).details], [503, 'config_refused']);
  await ads.answered(await ads.respond('endpoints', [], [till]));
  const address = [{ name: till, version: 'bad', bytes: endpoints(till, 'till.shop:80', BASKET_ID) }];
  t.regex((await ads.answered(await ads.respond('endpoints', address))).nack ?? '', /address/);
  await web.process.said(
    /a resource was refused, and there is no good one.* resource=till\.shop:3000 reason=.*address/,
  );
  t.is(await told('till'), '503 config_refused');
  const good = [{ name: till, version: 'good', bytes: endpoints(till, basket.address, BASKET_ID) }];
  await ads.answered(await ads.respond('endpoints', good));
  await until('a good one', async () => (await ask(web, '/', 'till')).status === 200);
  await siege.endures(t);
  await siege.ends(t);
});

test('who calls a name that comes to be of the mesh in two responses waits in between', async (t) => {
  const names = await NameServer.start(t);
  names.host('outside.test', ['127.0.0.1']);
  const siege = await Siege.prepare(t, ['basket'], { '--dns-server': names.address });
  await siege.begin();
  const { control, web } = siege;
  const outside = await httpOrigin(t);
  const ads = await control.stream();
  const told = async (host: string) => {
    const { status, headers } = await ask(web, '/', host);
    return status === 200 ? '200' : `${status} ${proxyStatus(headers).details}`;
  };
  const [name, host] = [`outside.test:${outside.port}`, 'outside.test:*'];
  const first = told(name);
  for (const one of [name, host]) await ads.wants('listener', one);
  await ads.respond('listener', [], [name, host]);
  t.is(await first, '200');
  const said = (one: string) => [{ name: one, version: '1', bytes: message([1, 7]) }];
  await ads.answered(await ads.respond('listener', said(host)));
  const between = until('it is called outside no more', async () => {
    const answer = await told(name);
    return answer !== '200' && answer;
  });
  await setTimeout(500);
  await ads.respond('listener', said(name));
  // What is said of the name can't be used, which is not that its host does not declare it.
  t.is(await between, '503 config_refused');
  const { requests } = outside;
  t.is(await told(name), '503 config_refused');
  t.is(outside.requests, requests);
  await siege.ends(t);
});

test('a name of which nothing is said is not called outside of the mesh, however much is said of others', async (t) => {
  const names = await NameServer.start(t);
  names.host('outside.test', ['127.0.0.1']);
  const siege = await Siege.prepare(t, ['basket'], { '--dns-server': names.address });
  await siege.begin();
  const { control, web } = siege;
  const outside = await httpOrigin(t);
  const [name, host] = [`outside.test:${outside.port}`, 'outside.test:*'];
  const ads = await control.stream();
  await ads.respond('cluster', []);
  const first = ask(web, '/', name);
  for (const one of [name, host]) await ads.wants('listener', one);
  await ads.respond('listener', []);
  t.regex(String((await first).headers['proxy-status']), /name_timeout/);
  // Other servers of xDS would have said by this that there is no such name.
  await setTimeout(DOES_NOT_EXIST_AFTER_MS);
  t.regex(String((await ask(web, '/', name)).headers['proxy-status']), /name_timeout/);
  t.is(outside.requests, 0);
  await ads.respond('listener', [], [name, host]);
  await until('it is called outside', async () => (await ask(web, '/', name)).status === 200);
  await siege.ends(t);
});

test('silence, and answers byte by byte, keep nobody waiting', async (t) => {
  const siege = await Siege.prepare(t);
  await siege.begin();
  const { control, web, basket } = siege;
  const ads = await control.stream();
  await ads.wants('endpoints', BASKET);
  const late = await ask(web, '/', 'unheard-of');
  t.is(late.status, 503);
  t.regex(String(late.headers['proxy-status']), /name_timeout/);
  const content = [{ name: BASKET, version: 'slow', bytes: endpoints(BASKET, basket.address, BASKET_ID) }];
  const whole = response('endpoints', 'slow', [[2, message([1, 'slow'], [3, BASKET])]]);
  for (const byte of Buffer.concat([prefix(whole.length), whole])) {
    await ads.write(Buffer.from([byte]));
    await setTimeout(2);
  }
  t.regex((await ads.answered('slow')).nack ?? '', /has no content/);
  await ads.answered(await ads.respond('endpoints', content));
  await siege.endures(t);
  control.mute = true;
  control.dismiss();
  await web.process.said(/the control plane is gone.*to connect to the control plane took too long/);
  t.true((await siege.counts('connections_lost_total{reason="deadline"}')) >= 1);
  await siege.endures(t);
  await siege.ends(t);
});

test('who reads no answers is not listened to for ever', async (t) => {
  const siege = await Siege.prepare(t);
  const { control, web } = siege;
  control.behaviour = async (ads) => {
    await ads.wants('cluster', BASKET);
    ads.stream.pause();
    while (!ads.closed) await ads.respond('cluster', []);
  };
  await siege.begin();
  // What waits to be sent has half a minute.
  await until(
    'the end of patience',
    () => /the control plane is gone.*to send a message took too long/.test(web.process.stderr()),
    2 * PATIENCE_MS,
  );
  await siege.endures(t);
});

test('who signs badly makes no sidecar ready, and none of its answers is believed', async (t) => {
  const authority = await Authority.create(t);
  const mesh = await Mesh.start(t, { issuer: await authority.issuer() });
  const certificate = await authority.sign({ names: ['URI:spiffe://mesh.test/ns/mesh/sa/control'] });
  const control = await HostileControl.start(t, certificate, authority.root);
  await control.open();
  const other = await authority.sign({ names: [`URI:${idOf('till')}`], client: 'too' });
  const roots = readFileSync(authority.root, 'utf8');
  const answers: [(answer: Answer) => Promise<void>, RegExp][] = [
    [(answer) => answer.send(message([1, 'no certificate'], [2, roots])), /no certificate error=/],
    [(answer) => answer.send(message([1, 'x'], [2, 'no roots'])), /the roots can't be used/],
    [
      (answer) =>
        answer.send(message([1, new X509Certificate(readFileSync(other.certificate)).raw], [2, roots])),
      /the key is not the certificate's/,
    ],
    [(answer) => answer.write(prefix(200_000_000)), /a message of 200000000 bytes/],
  ];
  let asked = 0;
  control.signs = (answer) => answers[asked++]?.[0](answer);
  const web = await mesh.sidecar(t, 'web', { flags: { '--control': control.address }, ready: false });
  for (const [, said] of answers) await web.process.said(said);
  t.notRegex(web.process.stderr(), /ready/);
  const peak = web.process.peakBytes();
  t.true(peak < MOST_BYTES, `${peak} bytes`);
  const gaps = control.connections.slice(1).map((at, number) => at - (control.connections[number] ?? 0));
  t.true(Math.min(...gaps) > 450, gaps.join(' ms, '));
});

test('a control plane that does not say who may call makes no sidecar ready, however long it is silent', async (t) => {
  const authority = await Authority.create(t);
  const mesh = await Mesh.start(t, { issuer: await authority.issuer() });
  const certificate = await authority.sign({ names: ['URI:spiffe://mesh.test/ns/mesh/sa/control'] });
  const control = await HostileControl.start(t, certificate, authority.root);
  const state = join(temporaryFolder(t), 'state');
  const enrolled = await mesh.sidecar(t, 'web', { flags: { '--state-dir': state } });
  await enrolled.process.kill();
  const configuration = join(state, 'configuration.json');
  rmSync(configuration);
  control.tells = (answer) => answer.send(denied([]));
  control.behaviour = async (ads) => void (await ads.respond('cluster', []));
  await control.open();
  const web = await mesh.sidecar(t, 'web', {
    flags: { '--state-dir': state, '--control': control.address },
    ready: false,
  });
  const says = () => /the control plane does not say who may call: not ready/.test(web.process.stderr());
  await until('a word of the silence', says, 2 * PATIENCE_MS);
  t.is((await request(web.admin, { path: '/ready' })).status, 503);
  t.notRegex(web.process.stderr(), /^mesh-sidecar: ready$/m);
  t.false(existsSync(configuration));
  const ads = await control.stream(1);
  await ads.wants('listener', idOf('web'));
  await ads.respond('listener', [], [idOf('web')]);
  await web.process.said(/^mesh-sidecar: ready$/m);
  t.true(existsSync(configuration));
});
