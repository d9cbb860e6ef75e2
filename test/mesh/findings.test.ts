// Does `mesh check` tell what is wrong, with how to mend it, and nothing that is well?

import test from 'ava';
import type { SourceStatus } from '../../src/discovery/types.js';
import { type Finding, check } from '../../src/mesh/admin/findings.js';
import { MISSED_MS, Witness } from '../../src/mesh/admin/witness.js';
import { edge, sidecar, status } from './status.js';
import { idOf } from './support.js';

const told = (findings: readonly Finding[]): string[] =>
  findings.map(({ level, what }) => `${level}: ${what}`);

const source: SourceStatus = {
  service: 'basket',
  name: 'file basket.yaml',
  state: 'live',
  endpoints: 2,
  saidAtMs: -59_000,
  failingSinceMs: null,
  restarts: 0,
  problem: null,
};

test('what is wrong is told with how to mend it', (t) => {
  t.deepEqual(told(check(status([]))), ['ok: all 1 sidecars are ready, with good certificates']);
  t.like(check(status([], []))[0], { level: 'error', what: 'no sidecar is connected' });
  const nack = { resource: 'a.b.Cluster', name: 'x', version: '1', reason: 'bad' };
  const findings = check(
    status(
      [edge({ direction: 'inbound', identity: idOf('basket'), mtls: false })],
      [sidecar({ nacks: [nack] }), sidecar({ phase: 'connected' }), sidecar({ version: '0.0.9' })],
    ),
  );
  t.deepEqual(told(findings), [
    'error: basket-1 refuses Cluster x: bad',
    'warning: basket-1 is connected and not ready',
    'warning: basket-1 is of version 0.0.9, its control plane of 0.1.0',
    `warning: ${idOf('basket')} takes requests without TLS (10)`,
  ]);
  t.true(findings.every(({ mend }) => mend !== undefined));
});

test('sidecars of one service and name are told, with what to do', (t) => {
  const findings = check(status([], [sidecar({ sharesName: true }), sidecar({ name: 'basket-2' })]));
  t.deepEqual(told(findings), [
    `error: basket-1 is the name of more than one sidecar of ${idOf('basket')}: only the one that came last is there, until another comes again`,
  ]);
  t.is(findings[0]?.mend, 'start each with a --name of its own, or without --name');
});

test('what a sidecar left out is told, and that the rest serves', (t) => {
  const of = (resource: string) => ({ resource, name: 'basket:80', version: '', reason: 'bad' });
  const nacks = [of('mesh.Name'), of('mesh.Configuration')];
  t.deepEqual(
    check(status([], [sidecar({ nacks })])).map(({ what, mend }) => [what, mend?.split(';')[0]]),
    [
      ['basket-1 refuses Name basket:80: bad', 'the rest serves'],
      ['basket-1 refuses Configuration basket:80: bad', 'the last good one serves'],
    ],
  );
});

test('a certificate should have been renewed with a fifth of its life left, or 12 s where that is not known', (t) => {
  const ends = (certificateNotAfterMs: number | null, certificateLifeMs: number | null): string[] =>
    told(check(status([], [sidecar({ certificateNotAfterMs, certificateLifeMs })])));
  const well = ['ok: all 1 sidecars are ready, with good certificates'];
  t.deepEqual(ends(0, null), ["error: basket-1's certificate has ended"]);
  t.deepEqual(ends(0, 60_000), ["error: basket-1's certificate has ended"]);
  t.deepEqual(ends(201_000, 1_000_000), well);
  t.deepEqual(ends(200_000, 1_000_000), ["error: basket-1's certificate ends in 199 s of 1000 s"]);
  t.deepEqual(ends(13_000, null), well);
  t.deepEqual(ends(12_000, null), ["error: basket-1's certificate ends in 11 s"]);
  t.deepEqual(ends(null, 60_000), well);
});

test('who is revoked is told', (t) => {
  const revoked = [idOf('web'), '4f1c09a2b7'];
  t.deepEqual(
    told(check({ ...status([]), revoked })),
    revoked.map((whom) => `warning: ${whom} is revoked: calls by it and to it fail`),
  );
});

test('a service that nobody answers for is told, once', (t) => {
  const services = [
    { name: 'basket', endpoints: 0 },
    { name: 'web', endpoints: 1 },
  ];
  t.deepEqual(told(check({ ...status([]), services })), ['error: basket has no endpoints: calls to it fail']);
  const ended = [{ name: 'basket', endpoints: 0, why: "basket.1: it can't be started: EACCES" }];
  t.deepEqual(told(check({ ...status([]), services: ended })), [
    "error: basket has no endpoints: calls to it fail; basket.1: it can't be started: EACCES",
  ]);
  const failing = { ...source, state: 'failing', endpoints: 0, saidAtMs: null, problem: 'gone' } as const;
  t.deepEqual(told(check({ ...status([]), services, sources: [failing] })), [
    'error: basket: file basket.yaml fails: gone',
  ]);
});

test('a sidecar that lacks ports of its service is named, with what it takes', (t) => {
  const lacking = [{ sidecar: 'basket-1', ports: [4000, 9000] }];
  const findings = check({ ...status([]), services: [{ name: 'basket', endpoints: 1, lacking }] });
  t.deepEqual(told(findings), ['warning: basket-1 does not offer port 4000 and 9000 of basket']);
  t.is(
    findings[0]?.mend,
    'start it with --ports 4000=127.0.0.1:PORT,9000=127.0.0.1:PORT, where its application listens',
  );
});

test('a sidecar for which no policy of a service holds is named', (t) => {
  const strangers = [{ name: 'cart-1', identity: idOf('cart') }];
  t.deepEqual(told(check({ ...status([]), strangers })), [
    `warning: cart-1 is ${idOf('cart')}, which is no service, and no endpoint names it: only policies to '*' hold for it`,
  ]);
});

test('that sidecars can be gone around is a note, and no problem', (t) => {
  const findings = check({ ...status([]), isBypassable: true });
  t.deepEqual(
    findings.map(({ level }) => level),
    ['ok', 'note'],
  );
});

test('who left without a word is missed after 30 s, for an hour, until it is back', (t) => {
  const witness = new Witness();
  const here = sidecar({});
  const left = { kind: 'gone', sidecar: here };
  const missed = (atMs: number, sidecars = [sidecar({ name: 'web-1' })]): string[] =>
    told(check({ ...status([], sidecars), atMs, missing: witness.missing(sidecars, atMs) }));
  const well = ['ok: all 1 sidecars are ready, with good certificates'];
  witness.heard({ kind: 'ready', sidecar: here }, 0);
  witness.heard(left, 1000);
  t.deepEqual(missed(30_999), well);
  t.deepEqual(missed(31_000), ['warning: basket-1 left without a word, 30 s ago']);
  t.is(witness.missing([], 1000 + MISSED_MS).length, 1);
  t.deepEqual(witness.missing([], 1001 + MISSED_MS), []);

  witness.heard(left, 0);
  witness.heard({ kind: 'connected', sidecar: here }, 1);
  t.deepEqual(witness.missing([], 2), []);
  // It is back, and the event was lost.
  witness.heard(left, 0);
  t.deepEqual(witness.missing([here], 1), []);
  t.deepEqual(witness.missing([], 1), []);
  witness.heard({ kind: 'gone', sidecar: sidecar({ phase: 'draining' }) }, 0);
  t.deepEqual(witness.missing([], 1), [], 'it said goodbye');
});

test('how long a certificate lives is known of those that were signed', (t) => {
  const witness = new Witness();
  witness.heard({ kind: 'audit', serial: '7', timeMs: 1000, notAfterMs: 61_000, refused: null }, 1000);
  witness.heard({ kind: 'audit', serial: null, timeMs: 1000, notAfterMs: null, refused: 'denied' }, 1000);
  t.is(witness.lifeMs(sidecar({ certificateSerial: '7' })), 60_000);
  t.is(witness.lifeMs(sidecar({ certificateSerial: '8' })), null);
  t.is(witness.lifeMs(sidecar({ certificateSerial: null })), null);
});

test('a source that fails is told with how old what serves is', (t) => {
  const failing = { ...source, state: 'failing', failingSinceMs: -9000, problem: 'no such file' } as const;
  const findings = check({
    ...status([]),
    sources: [source, failing, { ...failing, endpoints: 0, saidAtMs: null }, { ...source, state: 'waiting' }],
  });
  t.deepEqual(
    findings.map(({ level, what, mend = '' }) => `${level}: ${what}; ${mend}`),
    [
      'warning: basket: file basket.yaml fails for 10 s: no such file; the 2 endpoints it had serve on, as told 60 s ago',
      'error: basket: file basket.yaml fails for 10 s: no such file; nobody answers for it',
      'warning: basket: file basket.yaml has not said what there is; look whether it can be reached',
    ],
  );
});
