// Does a release lie in its file as its list says?

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../support/files.js';
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

// Only lld takes an order.
const testOfOrder = process.platform === 'linux' && process.arch === 'x64' ? test : test.skip;

testOfOrder('what is listed comes first, and the rest behind it', (t) => {
  const folder = temporaryFolder(t);
  const source = join(folder, 'main.rs');
  // Two of its functions are in the list, eight are not. They are called by address, so that none is put into another.
  const rare = Array.from({ length: 8 }, (_, n) => `rare${n}`);
  const text = ['run', ...rare].map(
    (name, n) => `#[inline(never)] fn ${name}() -> usize { std::env::args().count() + ${n} }`,
  );
  writeFileSync(
    source,
    `${text.join('\n')}
    fn main() {
      let all: [fn() -> usize; 9] = [run, ${rare.join(', ')}];
      println!("{}", all.iter().map(|each| std::hint::black_box(each)()).sum::<usize>());
    }`,
  );
  const placeOf = hotFunctions();
  for (const name of ['mesh_sidecar::run', 'mesh_sidecar::main'])
    t.not(placeOf(name), undefined, 'the list is another one now: name two functions of it');
  const program = join(folder, 'mesh_sidecar-ordered');
  const linker = join(process.cwd(), 'scripts', 'link-sidecar.mjs');
  const crate = ['--crate-name', 'mesh_sidecar', '--edition', '2021', '-O', '-C', 'codegen-units=1'];
  execFileSync('rustc', [...crate, '-C', `linker=${linker}`, '-o', program, source]);
  t.is(execFileSync(program, ['a', 'b'], { encoding: 'utf8' }), `${9 * 3 + 36}\n`);
  const nm = ['--demangle', '--defined-only', '--numeric-sort', program];
  const symbols = execFileSync('nm', nm, { encoding: 'utf8', maxBuffer: 2 ** 26 });
  const order = [...symbols.matchAll(/ mesh_sidecar::(\w+)$/gm)].map(([, symbol]) => symbol ?? '');
  t.deepEqual(order.slice(0, 2).toSorted(), ['main', 'run']);
  t.deepEqual(order.slice(2).toSorted(), rare);
});
