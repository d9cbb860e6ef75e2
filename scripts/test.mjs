// npm test: every check there is, on a fresh clone too.
//
//     npm test                        all of it
//     npm test -- lint rust           parts: lint, types, rust, ava
//     npm test -- test/cli/run.test.ts ...   those test files only
//
// Whole suites begin with a look for the programs they run (`lib/system.mjs`).
//
// Ends in one plain line, `N passed, N failed`: checks, Rust tests and ava tests together. The line before it tells what
// was not run, if anything was not: what needs a program that is not on this machine.
//
// Which build do the tests run? The profile `ci`: optimised like `release` but without link-time optimisation,
// in many units, and with assertions and overflow checks on. One compilation of the dependencies serves the Rust
// tests, the sidecar and the Node addon, each of which would take minutes to link the way it ships. What ships is
// built by `npm run build`, from the same sources and features, and measured by `npm run bench`.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  ensureEnvoy,
  ensureGoControlPlane,
  ensureGrpcGo,
  ensureH2spec,
  ensureNative,
  ensureNodes,
  ensurePackages,
  ensureTests,
  ensureWasm,
} from './lib/artefacts.mjs';
import { CargoTestCounter } from './lib/cargo-test.mjs';
import { notRun } from './lib/not-run.mjs';
import { Failure, must, run, say, seconds } from './lib/run.mjs';
import { cargoManifests, loadManifest, scriptFiles } from './lib/sources.mjs';
import { ensurePrograms } from './lib/system.mjs';
import { TapCounter } from './lib/tap.mjs';
import {
  cargoEnv,
  envoyPath,
  goControlPlaneSource,
  needCargo,
  root,
  targetDir,
  whyNoGo,
} from './lib/toolchain.mjs';

const PROFILE = 'ci';
const here = { cwd: root };
const node = (path, ...args) => must(process.execPath, [join(root, path), ...args], here);
const ours = (path) =>
  must(process.execPath, [join(root, path)], { ...here, env: { ...process.env, BUILD_PROFILE: PROFILE } });
const cargo = (...args) => {
  needCargo();
  return must('cargo', args, { ...here, env: cargoEnv });
};
/** The workspace with this manifest, built where the others are: what several depend on is built once. */
const of = (path) => ['--manifest-path', path, '--target-dir', targetDir];
const inBuild = ['--workspace', '--locked', '--profile', PROFILE];

/**
 * A check passes, throws, or resolves with what is missing and why; a suite counts its own tests. Each makes what it
 * needs, so any of them can run alone.
 */
const steps = [
  { part: 'lint', name: 'npm packages', check: ensurePackages },
  {
    part: 'lint',
    name: 'format of Rust',
    check: async () => {
      for (const path of cargoManifests) await cargo('fmt', '--all', '--check', '--manifest-path', path);
    },
  },
  {
    part: 'lint',
    name: 'format of TypeScript',
    check: async () => {
      await ensurePackages();
      await node('node_modules/oxfmt/bin/oxfmt', '--check', ...scriptFiles);
    },
  },
  {
    part: 'lint',
    name: 'lint of TypeScript',
    check: async () => {
      await ensurePackages();
      await node('node_modules/oxlint/bin/oxlint');
    },
  },
  { part: 'lint', name: 'licences and bans', check: () => node('scripts/licences.mjs') },
  { part: 'types', name: 'types', check: ensureTests },
  {
    part: 'lint',
    name: 'clippy',
    check: async () => {
      for (const path of cargoManifests)
        await cargo('clippy', ...of(path), ...inBuild, '--all-targets', '--', '-D', 'warnings');
    },
  },
  {
    part: 'lint',
    name: 'links in the comments of Rust',
    check: () => {
      needCargo();
      // Comments are read where they stand, so they may lead to what is private.
      const env = { ...cargoEnv, RUSTDOCFLAGS: '-D warnings -A rustdoc::private_intra_doc_links' };
      return must('cargo', ['doc', ...inBuild, '--no-deps', '--document-private-items'], { ...here, env });
    },
  },
  { part: 'rust', name: 'Envoy', check: ensureEnvoy },
  { part: 'rust', name: 'Rust tests', suite: rustTests },
  { part: 'ava', name: 'native core for the tests', check: () => ensureNative(PROFILE) },
  {
    part: 'ava',
    name: 'WebAssembly for the tests',
    check: ensureWasm,
    isNeeded: (files) => files.length === 0 || files.some((file) => /wasm|pack/.test(file)),
  },
  {
    part: 'ava',
    name: 'h2spec',
    check: ensureH2spec,
    isNeeded: (files) => files.length === 0 || files.some((file) => file.includes('h2spec')),
  },
  {
    part: 'ava',
    name: 'grpc-go',
    check: ensureGrpcGo,
    isNeeded: (files) => files.length === 0 || files.some((file) => file.includes('xds')),
  },
  {
    part: 'ava',
    name: 'go-control-plane',
    check: ensureGoControlPlane,
    isNeeded: (files) => files.length === 0 || files.some((file) => file.includes('xds')),
  },
  {
    part: 'ava',
    name: 'Envoy for the tests',
    check: ensureEnvoy,
    isNeeded: (files) => files.length === 0 || files.some((file) => file.includes('xds')),
  },
  {
    part: 'ava',
    name: 'other versions of Node',
    check: ensureNodes,
    isNeeded: (files) => files.length === 0 || files.some((file) => file.includes('newer-node')),
  },
  {
    part: 'ava',
    name: 'packages for the tests',
    check: () => ours('scripts/pack.mjs'),
    isNeeded: (files) => files.length === 0 || files.some((file) => file.includes('package')),
  },
  {
    part: 'ava',
    name: 'image for the tests',
    check: () => ours('scripts/image.mjs'),
    isNeeded: (files) =>
      process.platform === 'linux' && (files.length === 0 || files.some((file) => file.includes('image'))),
  },
  { part: 'ava', name: 'tests in Node', suite: avaTests },
];

async function rustTests() {
  needCargo();
  const counter = new CargoTestCounter();
  const onLine = (line) => counter.line(line) && say(line);
  const env = { ...cargoEnv, ENVOY: envoyPath };
  const test = async (...args) =>
    counter.end(
      await run('cargo', ['test', ...inBuild, '--no-fail-fast', ...args], { ...here, env, onLine }),
    );
  await test();
  await test(...of(loadManifest));
  // The tests that cargo leaves out, where what they need is there.
  const others = [
    { test: 'go_control_plane', name: 'go-control-plane', why: whyNoGo(goControlPlaneSource) },
    { test: 'envoy', name: 'Envoy', why: existsSync(envoyPath) ? undefined : 'it could not be fetched' },
  ];
  const missing = others.filter(({ why }) => why);
  const there = others.filter(({ why }) => !why);
  if (there.length > 0) {
    const before = counter.passed + counter.failed;
    await test(...there.flatMap((other) => ['--test', other.test]), '--', '--ignored');
    counter.skipped -= counter.passed + counter.failed - before;
  }
  return Object.assign(counter, { missing });
}

async function avaTests(files) {
  await ensureTests();
  const counter = new TapCounter();
  const onLine = (line) => counter.line(line) && say(line);
  const ava = join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');
  const code = await run(process.execPath, [ava, '--tap', ...files], { ...here, onLine });
  counter.end(code);
  return counter;
}

/** What the arguments ask for: the steps, and the test files when only some are wanted. */
function selection(args) {
  const parts = new Set(steps.map((step) => step.part));
  const files = args.filter((arg) => arg.endsWith('.test.ts'));
  const wanted = args.filter((arg) => !files.includes(arg));
  const unknown = wanted.filter((arg) => !parts.has(arg));
  if (unknown.length > 0) {
    throw new Failure(
      `no part is called ${unknown.join(', ')}: choose from ${[...parts].join(', ')} or name test files`,
    );
  }
  if (files.length > 0) wanted.push('ava');
  const chosen = wanted.length === 0 ? steps : steps.filter((step) => wanted.includes(step.part));
  return { files, chosen: chosen.filter(({ isNeeded = () => true }) => isNeeded(files)) };
}

/** Runs one step; resolves with what it counted. */
async function runStep({ name, check, suite }, files) {
  const start = performance.now();
  say(`\n--- ${name}`);
  let result = { passed: 0, failed: 1, skipped: 0 };
  try {
    if (suite) {
      result = await suite(files);
    } else {
      const missing = await check();
      result = { passed: missing ? 0 : 1, failed: 0, skipped: 0, missing: missing ? [missing] : [] };
    }
  } catch (error) {
    say(error instanceof Failure ? `error: ${error.message}` : error.stack);
  }
  const skipped = result.skipped > 0 ? `, ${result.skipped} skipped` : '';
  const counts = suite ? ` (${result.passed} passed, ${result.failed} failed${skipped})` : '';
  const isMissing = !suite && result.missing?.length > 0;
  say(
    `${result.failed > 0 ? 'FAILED' : isMissing ? 'not run' : 'ok'}: ${name}${counts} in ${seconds(start)}`,
  );
  return result;
}

async function testAll(args) {
  const { files, chosen } = selection(args);
  // A part that runs no program of the system, and who names a file, is not held up by what others miss.
  const isWhole = files.length === 0 && chosen.some(({ suite }) => suite);
  if (isWhole && process.platform === 'linux') await ensurePrograms();
  let passed = 0;
  const failures = [];
  const details = [];
  const missing = [];
  let failed = 0;
  let skipped = 0;
  for (const step of chosen) {
    const result = await runStep(step, files);
    passed += result.passed;
    failed += result.failed;
    skipped += result.skipped;
    missing.push(...(result.missing ?? []));
    if (result.failed > 0) failures.push(step.name);
    details.push(...(result.failures?.lines ?? []));
  }
  // Once more at the end, where they are found: what else was told fills thousands of lines.
  for (const line of ['', ...details]) say(line);
  if (failures.length > 0) say(`failed: ${failures.join(', ')}`);
  const leftOut = notRun(missing, skipped);
  if (leftOut) say(leftOut);
  say(`${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}

try {
  await testAll(process.argv.slice(2));
} catch (error) {
  say(error instanceof Failure ? `error: ${error.message}` : error.stack);
  say('0 passed, 1 failed');
  process.exitCode = 1;
}
