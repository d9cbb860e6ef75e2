// Are the small values taken as the core takes them, and is a near miss put right?

import test from 'ava';
import * as formats from '../../src/config/formats.js';
import { nearest } from '../../src/config/suggest.js';
import { parsePath, renderPath } from '../../src/config/path.js';

const CASES: Record<string, { good: string[]; bad: string[] }> = {
  duration: {
    good: ['0s', '250ms', '2s', '1.5s', '5m', '1h', '24h'],
    bad: [
      '',
      '5',
      's',
      '-1s',
      '1e3s',
      '1 s',
      '25h',
      '5d',
      '1.2.3s',
      'NaNs',
      '0.4ms',
      '99999999999999999999h',
    ],
  },
  size: {
    good: ['1B', '64KiB', '10MiB', '1GiB', '5MB'],
    bad: ['', '64', '64 KiB', '1.5MiB', '64kib', '-1B', '99999999999GiB'],
  },
  address: {
    good: [
      '127.0.0.1:80',
      '[::1]:8080',
      '[::]:0',
      ':80',
      'localhost:1',
      'unix:/run/app.sock',
      'unix:relative.sock',
    ],
    bad: [
      '',
      '80',
      '1.2.3.4',
      'example.test:80',
      '1.2.3.4:70000',
      '1.2.3:80',
      '01.2.3.4:80',
      'unix:',
      '::1',
      '::1:80',
      '[::1%eth0]:80',
      `unix:/${'x'.repeat(107)}`,
      '1.2.3.4:-1',
      '1.2.3.4:',
    ],
  },
  server: {
    good: ['127.0.0.1:80', '[::1]:8080', 'localhost:1', 'unix:/run/app.sock'],
    bad: ['', '80', ':80', '*:80', '1.2.3.4', '::1', '/run/app.sock', 'http://127.0.0.1:80/'],
  },
  nameServer: {
    good: ['10.0.0.53', '10.0.0.53:5353', '::1', '[::1]:53'],
    bad: [
      '',
      'ns.test',
      '10.0.0.53:0',
      '10.0.0.53:',
      ':53',
      'localhost:53',
      '10.0.0.1,',
      'unix:/a:1',
      'fe80::1%1',
    ],
  },
  dnsName: {
    good: ['a:1', 'site.internal:443', '_x.a-b.test:80'],
    bad: ['', 'site', 'site:0', 'site:65536', '127.0.0.1:80', 'a..b:80', 'http://a:80', '[::1]:80'],
  },
  hostPattern: {
    good: ['*', 'shop.test', '*.shop.test', 'SHOP.test', '127.0.0.1', '[::1]', 'a_b.test'],
    bad: [
      '',
      'shop.test:80',
      '*.',
      'a.*',
      '*shop.test',
      '**.a',
      'a..b',
      '[::1',
      'http://a',
      '.shop.test',
      `${'a'.repeat(254)}`,
    ],
  },
  network: {
    good: [
      '10.0.0.0/8',
      '::/0',
      '::1',
      '127.0.0.1',
      'fe80::/10',
      '::ffff:10.0.0.0/104',
      '::/96',
      '64:ff9b::/96',
    ],
    bad: [
      '::/64',
      '::ffff:10.0.0.0/95',
      '::ffff:0:0/80',
      '',
      '10.0.0.0/33',
      '::/129',
      '10/8',
      'fe80::1%1/64',
      'a/8',
      '10.0.0.0/',
    ],
  },
  trustedNetwork: {
    good: ['10.0.0.0/8', '::1', 'unix'],
    bad: ['', 'Unix', 'unix:', 'unix:/run/app.sock', '10/8'],
  },
  pathPattern: {
    good: ['/', '/api', '/api/*', '/*', '/users/{id}', '/files/{rest*}', '~.*', '~^/v[0-9]+/.*$'],
    bad: ['', 'api', '*', '/api*', '/a/*/b', '/a/**', '/users/{id}/*', '~', '^/a'],
  },
  pathRewrite: { good: ['/', '/a', '/*', '/v2/*'], bad: ['', 'a', '/a*', '/*/a', '*'] },
  grpcMethod: {
    good: ['shop.v1.Basket', 'shop.v1.Basket/Get', 'Basket/*'],
    bad: ['', '/shop.v1.Basket/Get', 'a/b/c', 'a b'],
  },
  method: { good: ['GET', 'PROPFIND', 'purge'], bad: ['', 'get', 'Post'] },
  admin: { good: ['off', ':4191', '127.0.0.1:4191'], bad: ['', 'on', 'no', '4191'] },
};

for (const [name, { good, bad }] of Object.entries(CASES)) {
  const format = (formats as unknown as Record<string, formats.Format>)[name] as formats.Format;
  test(`${name}: what is taken and what not`, (t) => {
    for (const text of good) t.true(format.accepts(text), text);
    for (const text of bad) t.false(format.accepts(text), text);
    for (const text of format.examples ?? []) t.true(format.accepts(text), text);
    if (format.pattern === undefined) return;
    for (const text of good) t.regex(text, new RegExp(format.pattern));
  });

  if (format.advise === undefined) continue;
  test(`${name}: there is advice, and what it says to write is itself taken`, (t) => {
    const advice = bad.map((text) => format.advise?.(text)).filter((said) => said !== undefined);
    t.true(advice.length > 0);
    for (const said of advice) {
      const [, written] = /^(?:write|add a port:) ([^\s,]+)(?:, or .*)?$/.exec(said) ?? [];
      if (written !== undefined && !written.startsWith('endpoints:'))
        t.true(format.accepts(written.replaceAll("'", '')), said);
    }
  });
}

test('every format has words of its own, by which its advice is found', (t) => {
  const all = formats.formats.map(({ expected }) => expected);
  t.is(new Set(all).size, all.length);
});

test('durations and sizes have their values', (t) => {
  t.deepEqual(
    ['0s', '250ms', '1.5s', '5m', '1h'].map(formats.durationMs),
    [0, 250, 1500, 300_000, 3_600_000],
  );
  t.deepEqual(['1B', '64KiB', '10MiB', '5MB'].map(formats.sizeBytes), [1, 65_536, 10_485_760, 5_000_000]);
});

test('a mistyped word is recognised, another word is not', (t) => {
  const known = ['address', 'name', 'routes', 'timeouts', 'headerBytes'];
  for (const [word, meant] of [
    ['adress', 'address'],
    ['addres', 'address'],
    ['adderss', 'address'],
    ['Name', 'name'],
    ['nmae', 'name'],
    ['timeout', 'timeouts'],
    ['header_bytes', 'headerBytes'],
    ['header-bytes', 'headerBytes'],
    ['clusters', undefined],
    ['x', undefined],
    ['', undefined],
    ['address'.repeat(100), undefined],
  ] as const) {
    t.is(nearest(word, known), meant, word);
  }
});

test('paths are written and read alike', (t) => {
  t.is(renderPath(['listeners', 0, 'routes', 12, 'match']), 'listeners[0].routes[12].match');
  t.is(renderPath(['clusters', 'site-next', 'tls']), 'clusters.site-next.tls');
  t.is(renderPath(['clusters', '127.0.0.1:80']), 'clusters["127.0.0.1:80"]');
  t.deepEqual(parsePath('listeners[0].routes[12].match'), ['listeners', 0, 'routes', 12, 'match']);
  t.deepEqual(parsePath(''), []);
});
