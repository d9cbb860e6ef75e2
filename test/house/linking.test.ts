// Does a release lie in its file as its list says?

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { script } from './support.js';

const { hotFunctions, nameOf } = await script<{
  hotFunctions(): (name: string) => number | undefined;
  nameOf(symbol: string): string;
}>('lib/hot-functions.mjs');

test('a function has one name, whatever its types are and whichever version its library is of', (t) => {
  for (const [symbol, name] of [
    ['tokio::time::timeout::Timeout<T>::poll::{{closure}}', 'tokio::time::timeout::Timeout::poll'],
    ['<alloc::vec::Vec<T> as core::clone::Clone>::clone', '<alloc::vec::Vec as core::clone::Clone>::clone'],
    ['core::ptr::drop_in_place<core::option::Option<fn() -> u8>>', 'core::ptr::drop_in_place'],
    ['<&mut dyn Fn() -> u8>::call', '<&mut dyn Fn() -> u8>::call'],
    ['aws_lc_0_47_0_EVP_PKEY_new', 'aws_lc_EVP_PKEY_new'],
    ['memcpy', 'memcpy'],
  ] as const)
    t.is(nameOf(symbol), name);
});

test('what is listed comes first, and the rest behind it', (t) => {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    t.pass('only lld takes an order');
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'linking-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const source = join(folder, 'main.rs');
  // Some of what it needs of the standard library is in the list, and some is not.
  writeFileSync(source, 'fn main() { println!("{:?}", std::env::args().collect::<Vec<_>>()); }\n');
  const program = join(folder, 'mesh_sidecar-linked');
  const linker = join(process.cwd(), 'scripts', 'link-sidecar.mjs');
  execFileSync('rustc', ['--edition', '2021', '-O', '-C', `linker=${linker}`, '-o', program, source]);
  t.regex(execFileSync(program, ['works'], { encoding: 'utf8' }), /"works"/);

  const placeOf = hotFunctions();
  const nm = ['--demangle', '--defined-only', '--numeric-sort', program];
  const symbols = execFileSync('nm', nm, { encoding: 'utf8', maxBuffer: 2 ** 26 })
    .split('\n')
    .flatMap((line) => /^[0-9a-f]+ [tT] (.+)$/.exec(line)?.[1] ?? [])
    .map((symbol) => placeOf(nameOf(symbol)) !== undefined);
  const hot = symbols.filter(Boolean).length;
  t.true(hot > 50 && hot < symbols.length / 2, `${hot} of ${symbols.length}`);
  // The C library's own few have their places.
  const first = symbols.slice(0, hot + 20).filter(Boolean).length;
  t.true(first > hot * 0.95, `${first} of ${hot} are among the first`);
});
