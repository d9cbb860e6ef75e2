// How does the model become WebAssembly?
//
//     node scripts/wasm.mjs        leaves dist/wasm/mesh.wasm; `npm run build:wasm` runs it when something is stale
//
//     bindings/wasm ── cargo ──> mesh_wasm.wasm ── wasm-opt ──> dist/wasm/mesh.wasm
//
// The one thing that may be missing is a standard library for wasm32-unknown-unknown. It comes from
// - the toolchain in use, which has it or gets it with `rustup target add`; else
// - Debian's rustc-web, which builds it from its own sources. Installed when this is root on Debian.
// WASM_TOOLCHAIN=rustup or =debian forces one of the two.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Failure, main, must, run, say } from './lib/run.mjs';
import { cargoEnv, root, targetDir } from './lib/toolchain.mjs';

const TARGET = 'wasm32-unknown-unknown';
const DOWNLOAD_MINUTES = 5;
const DEBIAN_PACKAGES = ['rustc-web', 'cargo-web', 'rust-web-src'];

const printed = (program, ...args) =>
  execFileSync(program, args, { env: cargoEnv, encoding: 'utf8' }).trimEnd();
const sysroot = () => printed('rustc', '--print', 'sysroot');

/** The ways to a compiler with a standard library, each with how to call cargo; undefined where it is closed. */
const ways = {
  async rustup() {
    const isThere = () => existsSync(join(sysroot(), 'lib', 'rustlib', TARGET, 'lib'));
    if (!isThere()) {
      const how = { env: cargoEnv, limitMinutes: DOWNLOAD_MINUTES };
      await run('rustup', ['target', 'add', TARGET], how).catch((error) => say(error.message));
    }
    return isThere() ? { cargo: 'cargo', args: [], env: {} } : undefined;
  },

  async debian() {
    const rustc = '/usr/bin/rustc';
    const isThere = () =>
      existsSync(rustc) &&
      existsSync(join(printed(rustc, '--print', 'sysroot'), 'lib', 'rustlib', 'src', 'rust'));
    if (!isThere()) await installDebianPackages();
    if (!isThere()) return undefined;
    return {
      cargo: '/usr/bin/cargo',
      args: ['-Z', 'build-std=std,panic_abort'],
      // The first opens `-Z` in a stable compiler. Debian ships no linker for this target; rustup's toolchains do.
      env: {
        RUSTC_BOOTSTRAP: '1',
        RUSTC: rustc,
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: linker(),
      },
    };
  },
};

async function installDebianPackages() {
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return;
  say(`installing ${DEBIAN_PACKAGES.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['install', '-y', '-qq', '--no-install-recommends', ...DEBIAN_PACKAGES];
  await must('apt-get', ['update', '-qq'], { env });
  await must('apt-get', install, { env, onLine: () => {} });
}

/** The linker of the toolchain in use, or LLVM's on the path. */
function linker() {
  const host = /^host: (.*)$/m.exec(printed('rustc', '--version', '--verbose'))?.[1] ?? '';
  const own = join(sysroot(), 'lib', 'rustlib', host, 'bin', 'rust-lld');
  return existsSync(own) ? own : 'wasm-ld';
}

async function toolchain() {
  const forced = process.env.WASM_TOOLCHAIN;
  if (forced && !Object.hasOwn(ways, forced))
    throw new Failure(`WASM_TOOLCHAIN: expected ${Object.keys(ways).join(' or ')}, received ${forced}`);
  for (const name of forced ? [forced] : Object.keys(ways)) {
    const found = await ways[name]();
    if (found) return found;
  }
  throw new Failure(
    `there is no Rust standard library for ${TARGET}.\n` +
      `  Run: rustup target add ${TARGET}\n` +
      `  or, as root on Debian: apt-get install ${DEBIAN_PACKAGES.join(' ')}`,
  );
}

function size(path) {
  const bytes = readFileSync(path);
  const kilobytes = (length) => `${(length / 1000).toFixed(0)} kB`;
  return `${kilobytes(bytes.length)}, ${kilobytes(gzipSync(bytes, { level: 9 }).length)} gzip`;
}

await main(async () => {
  const { cargo, args, env } = await toolchain();
  await must(
    cargo,
    ['build', '--locked', '--profile', 'wasm', '--target', TARGET, '-p', 'mesh-wasm', ...args],
    { cwd: root, env: { ...cargoEnv, ...env } },
  );
  const built = join(targetDir, TARGET, 'wasm', 'mesh_wasm.wasm');
  const output = join(root, 'dist', 'wasm', 'mesh.wasm');
  mkdirSync(dirname(output), { recursive: true });
  const optimise = join(root, 'node_modules', 'binaryen', 'bin', 'wasm-opt');
  await must(process.execPath, [optimise, '-Os', built, '-o', `${output}.new`]);
  // Renamed into place: whoever reads it meanwhile has the old one whole.
  renameSync(`${output}.new`, output);
  say(`    mesh.wasm: ${size(output)} (${size(built)} before wasm-opt)`);
});
