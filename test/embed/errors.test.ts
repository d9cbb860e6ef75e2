// Can a program tell what is wrong, and a person what to do?

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseShape } from '../../src/config/load.js';
import {
  CertificateError,
  type Config,
  ConfigError,
  ListenError,
  OptionError,
  createProxy,
  loadConfig,
} from '../../src/index.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { everythingTo, listening, makeProxy } from './support.js';

test('a port in use is EADDRINUSE, with the listener and the address', async (t) => {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const address = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  const wanted: Config = { listeners: [{ name: 'web', address, to: '127.0.0.1:1' }] };
  const error = await t.throwsAsync(makeProxy(t, wanted).listen(), {
    instanceOf: ListenError,
    code: 'EADDRINUSE',
    message: `listener web: cannot listen on ${address}: the address is in use; stop the process that holds it or choose another port (EADDRINUSE)`,
  });
  t.like(error, { listener: 'web', address, syscall: 'listen' });

  const { proxy, port } = await listening(t, everythingTo('127.0.0.1:1'));
  await t.throwsAsync(proxy.apply(wanted), { code: 'EADDRINUSE' });
  const other = { listeners: [{ address: `127.0.0.1:${port}`, to: '127.0.0.1:1' }] };
  await t.throwsAsync(makeProxy(t, other).listen(), { code: 'EADDRINUSE' }, 'a proxy holds its port as well');
});

test('an address that this machine does not have is EADDRNOTAVAIL', async (t) => {
  const config: Config = { listeners: [{ name: 'web', address: '192.0.2.1:0', to: '127.0.0.1:1' }] };
  await t.throwsAsync(makeProxy(t, config).listen(), { instanceOf: ListenError, code: 'EADDRNOTAVAIL' });
});

/** A configuration file with a TLS listener. */
function tlsFile(t: ExecutionContext, tls: string): string {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  writeFileSync(
    file,
    `listeners:\n  - name: web\n    address: 127.0.0.1:0\n    to: 127.0.0.1:1\n    tls:\n${tls}`,
  );
  return file;
}

async function refusal(t: ExecutionContext, file: string): Promise<CertificateError> {
  const proxy = createProxy(await loadConfig(file), { threads: 1 });
  t.teardown(() => proxy.close());
  return t.throwsAsync(proxy.listen(), {
    instanceOf: CertificateError,
    code: 'MESH_CERTIFICATE_INVALID',
  });
}

test('a missing certificate, a wrong key and a broken one: which file, and where it was written', async (t) => {
  const authority = await Authority.create(t);
  const [one, other] = await Promise.all([
    authority.sign({ names: ['one.test'] }),
    authority.sign({ names: ['other.test'] }),
  ]);
  const pair = (certificate: string, key: string): string =>
    tlsFile(t, `      certificate: ${certificate}\n      key: ${key}\n`);

  const missing = pair('none.crt', one.key);
  const noFile = await refusal(t, missing);
  const wanted = join(missing, '..', 'none.crt');
  t.is(noFile.file, wanted);
  t.like(noFile.issues[0], { file: missing, line: 6, field: 'listeners[0].tls.certificate' });
  t.true(noFile.message.includes(wanted), noFile.message);
  t.true(noFile instanceof ConfigError, 'it is a refused configuration');

  const wrongKey = await refusal(t, pair(one.certificate, other.key));
  t.is(wrongKey.file, other.key);
  t.like(wrongKey.issues[0], { line: 7, field: 'listeners[0].tls.key' });
  t.true(wrongKey.message.includes(`\`${other.key}\` is not the key of \`${one.certificate}\``));

  const broken = join(temporaryFolder(t), 'broken.key');
  writeFileSync(broken, '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n');
  const all = await refusal(t, pair('none.crt', broken));
  t.deepEqual(
    all.issues.map(({ line }) => line),
    [6, 7],
    'both are told',
  );
  t.notRegex(all.pretty(), /AAAA/);
});

test('roots that are none are told at the cluster', async (t) => {
  const { proxy } = await listening(t, everythingTo('127.0.0.1:1'));
  const error = await t.throwsAsync(
    proxy.apply({
      listeners: [{ name: 'web', address: '127.0.0.1:0', to: 'api' }],
      clusters: { api: { dns: 'api.test:443', tls: { roots: 'none.pem' } } },
    }),
    { instanceOf: CertificateError, code: 'MESH_CERTIFICATE_INVALID' },
  );
  t.is(error.issues[0]?.field, 'clusters.api.tls.roots');
});

test('a configuration that makes no sense is refused whole, with file, line and field of every mistake', async (t) => {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  writeFileSync(
    file,
    `listeners:
  - name: web
    address: 127.0.0.1:0
    to: nowhere
  - name: api
    address: 127.0.0.1:0
    routes:
      - { match: { path: /a }, to: [{ cluster: neither }] }
      - { match: { path: /a//b }, to: 127.0.0.1:1 }
`,
  );
  // When it is loaded, and when it comes to the proxy by a way on which nobody has looked.
  const proxy = createProxy(parseShape(readFileSync(file, 'utf8'), { file }), { threads: 1 });
  t.teardown(() => proxy.close());
  for (const work of [() => loadConfig(file), () => proxy.listen()]) {
    const error = await t.throwsAsync<ConfigError>(work, {
      instanceOf: ConfigError,
      code: 'MESH_CONFIG_INVALID',
    });
    t.deepEqual(
      error.issues.map(({ line, field }) => [line, field]),
      [
        [4, 'listeners[0].to'],
        [8, 'listeners[1].routes[0].to[0].cluster'],
        [9, 'listeners[1].routes[1].match.path'],
      ],
    );
    t.true(error.message.startsWith(`${file}:4:9: listeners[0].to: there is no cluster`));
  }
});

test('an object of the wrong shape throws at once', (t) => {
  const wrong = { listeners: [{ adress: ':80', to: 'x' }] } as unknown as Config;
  const error = t.throws(() => createProxy(wrong), { instanceOf: ConfigError });
  t.true(error?.issues.some(({ suggestion }) => suggestion === 'did you mean address?'));
});

test('options that make no sense throw at once', (t) => {
  for (const threads of [0, -1, 1.5, Number.NaN, 257]) {
    t.throws(() => createProxy(everythingTo('127.0.0.1:1'), { threads }), {
      instanceOf: OptionError,
      code: 'MESH_OPTION_INVALID',
      message: `threads: expected a whole number, 1 to 256, received ${threads}`,
    });
  }
});

test('what is refused changes nothing: the last good configuration serves', async (t) => {
  const origin = await httpOrigin(t);
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  const bad: Config[] = [
    everythingTo('nowhere'),
    { listeners: [...(everythingTo(origin.address).listeners ?? []), { address: '192.0.2.1:0', to: 'x:1' }] },
    {
      listeners: [
        { name: 'web', address: '127.0.0.1:0', to: origin.address, tls: { certificate: 'a', key: 'b' } },
      ],
    },
  ];
  for (const config of bad) {
    await t.throwsAsync(proxy.apply(config));
    t.is((await request(port)).status, 200);
  }
  const { updates, listeners } = await proxy.stats();
  t.deepEqual(updates, { applied: 1, refused: bad.length });
  t.is(listeners.length, 1);
});
