// Is an option of a control plane, or of a source, that makes no sense refused, before anybody is let in by what was not
// meant?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  type EtcdOptions,
  type MeshControlOptions,
  OptionError,
  StateError,
  createControlPlane,
  etcdSource,
  fileSource,
  staticSource,
} from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';

const MESH = { services: { basket: { port: 3000 }, web: {} } };
const HERE = '127.0.0.1:0';
const ADDRESS = /expected an address such as 127\.0\.0\.1:4144 or \[::1\]:4144/.source;

/** What is refused, as no compiler would let it pass. */
const REFUSED: [options: unknown, message: RegExp][] = [
  [
    { decid: () => ({ allow: false, reason: 'no' }) },
    /^options: expected one of listen, .*, received decid; did you mean decide\?$/,
  ],
  [{ statedir: 'state' }, /^options: .*, received statedir; did you mean stateDir\?$/],
  [{ decide: true }, /^decide: expected a function, received true$/],
  [{ decide: null }, /^decide: expected a function, received null$/],
  [{ attest: 'x' }, /^attest: expected a function, received x$/],
  [{ listen: 4144 }, new RegExp(`^listen: ${ADDRESS}, or a list of them, received 4144$`)],
  [{ listen: [] }, new RegExp(`^listen: ${ADDRESS}, or a list of them, received \\[\\]$`)],
  [{ listen: '' }, new RegExp(`^listen: ${ADDRESS}, or a list of them, received $`)],
  [{ listen: 'localhost:4144' }, new RegExp(`^listen: ${ADDRESS}, received localhost:4144$`)],
  [{ listen: [HERE, ':4144'] }, new RegExp(`^listen: ${ADDRESS}, received :4144$`)],
  [{ listen: '127.0.0.1:65536' }, new RegExp(`^listen: ${ADDRESS}, received 127\\.0\\.0\\.1:65536$`)],
  [{ listen: '[::1%lo]:1' }, new RegExp(`^listen: ${ADDRESS}, received `)],
  // oxlint-disable-next-line no-sparse-arrays
  [{ listen: [HERE, , HERE] }, new RegExp(`^listen: ${ADDRESS}, received undefined$`)],
  [{ plaintextXds: 'unix:/tmp/x' }, new RegExp(`^plaintextXds: ${ADDRESS}, received unix:/tmp/x$`)],
  [{ stateDir: 5 }, /^stateDir: expected a folder, received 5$/],
  [{ stateDir: '' }, /^stateDir: expected a folder, received $/],
  [
    { issuer: { chain: 'x', key: 'y' } },
    /^issuer: expected an issuer with chain, key and roots in PEM, received /,
  ],
  [{ discovery: 'basket' }, /^discovery: expected sources by service, received basket$/],
  [{ discovery: { baskt: () => {} } }, /^discovery: expected a service of the mesh \(basket\?\)/],
  [
    { discovery: { basket: ['10.0.0.1:80'] } },
    /^discovery\.basket: expected a source, which is a function that gives an async generator, received \[/,
  ],
  [
    { discovery: { basket: source()(signal()) } },
    /^discovery\.basket: .*, received Object \[AsyncGenerator\]/,
  ],
  [{ discovery: { basket: null } }, /^discovery\.basket: .*, received null$/],
  [{ telemetryIntervalMs: 'soon' }, /^telemetryIntervalMs: expected a whole number .*, received soon$/],
  [{ telemetryIntervalMs: -5 }, /^telemetryIntervalMs: .*, received -5$/],
  [{ telemetryIntervalMs: 1.5 }, /^telemetryIntervalMs: .*, received 1\.5$/],
  [{ signal: {} }, /^signal: expected an AbortSignal, received \{\}$/],
  [null, /^options: expected an object, received null$/],
  ['listen', /^options: expected an object, received listen$/],
];

function signal(): AbortSignal {
  return new AbortController().signal;
}

function source(): NonNullable<MeshControlOptions['discovery']>[string] {
  return async function* () {
    yield { set: ['10.0.0.1:80'] };
  };
}

for (const [number, [options, message]] of REFUSED.entries()) {
  test(`refused, ${number}: ${message.source}`, (t) => {
    const error = t.throws(() => createControlPlane(MESH, options as MeshControlOptions), {
      instanceOf: OptionError,
    });
    t.is(error?.code, 'MESH_OPTION_INVALID');
    t.regex(error?.message ?? '', message);
  });
}

test('what is undefined is absent, and what the core takes is taken', async (t) => {
  const absent = Object.fromEntries(
    ['stateDir', 'issuer', 'attest', 'decide', 'telemetryIntervalMs', 'signal'].map((name) => [
      name,
      undefined,
    ]),
  );
  const options = { ...absent, plaintextXds: [], discovery: { basket: undefined, web: source() } };
  const listen = [HERE, '[::1]:0', '[::1%0]:0'];
  const plane = createControlPlane(MESH, { ...options, listen } as unknown as MeshControlOptions);
  t.teardown(() => plane.close());
  t.is((await plane.listen()).length, listen.length);
});

test('a source in etcd is refused where a mesh file would be', (t) => {
  const [endpoints, prefix] = [['http://127.0.0.1:2379'], '/mesh/basket/'];
  const refused: [options: unknown, message: RegExp][] = [
    [undefined, /^options: expected an object, received undefined$/],
    [
      { endpoints: ['127.0.0.1:2379'], prefix },
      /^endpoints: expected a URL such as http:\/\/127\.0\.0\.1:2379, received 127\.0\.0\.1:2379; write http:\/\/127\.0\.0\.1:2379$/,
    ],
    [{ endpoints: [...endpoints, 2379], prefix }, /^endpoints: expected a URL .*, received 2379$/],
    [{ endpoints: [], prefix }, /^endpoints: expected a list of URLs such as .*, received \[\]$/],
    [{ endpoints: endpoints[0], prefix }, /^endpoints: expected a list of URLs .*, received http/],
    [{ prefix }, /^endpoints: expected a list of URLs .*, received undefined$/],
    [{ endpoints }, /^prefix: expected what keys begin with, such as .*, received undefined$/],
    [{ endpoints, prefix: '/mesh/basket' }, /^prefix: .*, received \/mesh\/basket; write \/mesh\/basket\/$/],
    [{ endpoints, prefix, user: 'mesh' }, /^user: expected user and passwordFile together, received mesh$/],
    [{ endpoints, prefix, key: 'a.key' }, /^certificate: expected certificate and key together, /],
    [{ endpoints, prefix, roots: '' }, /^roots: expected a file, received $/],
    [{ endpoints, prefix, password: 'x' }, /^options: expected one of endpoints, .*, received password/],
  ];
  for (const [options, message] of refused) {
    t.throws(() => etcdSource(options as EtcdOptions), { instanceOf: OptionError, message });
  }
  t.notThrows(() => etcdSource({ endpoints: [...endpoints, 'https://[::1]:2379/'], prefix }));
});

test('a list or a file that is none is refused where it is written', (t) => {
  const refused: [call: () => unknown, message: RegExp][] = [
    [() => staticSource('10.0.0.1:80' as never), /^endpoints: expected a list of endpoints, received 10/],
    [() => staticSource(undefined as never), /^endpoints: .*, received undefined$/],
    [() => fileSource('' as never), /^file: expected the path of a file, received $/],
    [() => fileSource(['ledger.yaml'] as never), /^file: .*, received \[ 'ledger\.yaml' \]$/],
  ];
  for (const [call, message] of refused) t.throws(call, { instanceOf: OptionError, message });
});

test('of token(), revoke() and allow(): nothing is made, and nobody is denied', async (t) => {
  const plane = createControlPlane(MESH, { listen: HERE });
  t.teardown(() => plane.close());
  await plane.listen();
  const refused: [call: () => Promise<unknown>, message: RegExp][] = [
    ...(
      [
        [{ usez: 1 }, /^options: expected one of uses, ttlMs, received usez; did you mean uses\?$/],
        [{ uses: 1.5 }, /^uses: expected a whole number, 1 to 10,000, received 1\.5$/],
        [{ uses: '2' }, /^uses: .*, received 2$/],
        [{ uses: 0 }, /^uses: .*, received 0$/],
        [{ uses: 10_001 }, /^uses: .*, received 10001$/],
        [{ ttlMs: 'x' }, /^ttlMs: expected a whole number of milliseconds, 30 days at most, received x$/],
        [{ ttlMs: -1 }, /^ttlMs: .*, received -1$/],
        [{ ttlMs: Infinity }, /^ttlMs: .*, received Infinity$/],
        [{ ttlMs: 30 * 86_400_000 + 1 }, /^ttlMs: /],
        [null, /^options: expected an object, received null$/],
      ] as [options: object, message: RegExp][]
    ).map(
      ([options, message]) =>
        [() => plane.token('basket', options), message] as [() => Promise<string>, RegExp],
    ),
    [() => plane.token(undefined as unknown as string), /^service: expected .*, received undefined$/],
    [() => plane.token('baskt'), /^service: expected one of basket, web, or a SPIFFE id, received baskt$/],
    [
      () => plane.revoke(5 as unknown as string),
      /^whom: expected a SPIFFE id, or the serial number of a certificate, received 5$/,
    ],
    [() => plane.revoke(undefined as unknown as string), /^whom: .*, received undefined$/],
    [() => plane.allow(null as unknown as string), /^whom: .*, received null$/],
  ];
  for (const [call, message] of refused) await t.throwsAsync(call(), { instanceOf: OptionError, message });
  t.deepEqual(plane.revoked(), []);
  t.regex(await plane.token('basket', { uses: 10_000, ttlMs: 30 * 86_400_000 }), /^mesh-token-/);
  t.regex(await plane.token('basket', { uses: undefined } as unknown as object), /^mesh-token-/);
});

test('a folder of state that can not be made is told without an option of the command', async (t) => {
  const stateDir = join(temporaryFolder(t), 'file');
  writeFileSync(stateDir, '');
  const plane = createControlPlane(MESH, { listen: HERE, stateDir });
  t.teardown(() => plane.close());
  const error = await t.throwsAsync(plane.listen(), { instanceOf: StateError });
  t.regex(error?.message ?? '', /^the state folder can't be made: EEXIST/);
  t.notRegex(error?.message ?? '', /--/);
});
