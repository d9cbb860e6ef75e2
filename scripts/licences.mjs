// May everything we depend on be shipped, and is nothing among it that we have decided against?
//
//     node scripts/licences.mjs [--root FOLDER]
//
// Offline: it reads `cargo tree` and `package-lock.json`, no database. The rules are in `licences.json`.
// Crates are those of every platform we ship for; each must come from a registry or from this tree. Bans of npm
// packages concern what users install with us; licences concern the tools of development too.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Failure, main, say } from './lib/run.mjs';
import { isAllowed } from './lib/spdx.mjs';
import { cargoEnv, manifest, needCargo, root } from './lib/toolchain.mjs';

const rules = JSON.parse(readFileSync(new URL('./licences.json', import.meta.url), 'utf8'));
const allowed = new Set(rules.allowed);
const TREE_LIMIT_BYTES = 256 * 1024 * 1024;

await main(() => {
  const { values } = parseArgs({ options: { root: { type: 'string', default: root } } });
  const top = resolve(values.root);
  const crates = existsSync(join(top, 'Cargo.toml')) ? checkCrates(top) : nothing();
  const packages = existsSync(join(top, 'package-lock.json')) ? checkPackages(top) : nothing();
  const problems = [...crates.problems, ...packages.problems];
  if (problems.length > 0)
    throw new Failure(`${problems.length} dependencies break a rule\n  ${problems.join('\n  ')}`);
  say(`${crates.count} crates and ${packages.count} npm packages: licences and bans hold`);
});

function nothing() {
  return { count: 0, problems: [] };
}

/** `cargo tree` and not `cargo metadata`: only the former leaves out what our features do not turn on. */
function checkCrates(top) {
  needCargo();
  const targets = manifest.napi.targets.flatMap((target) => ['--target', target]);
  const shape = ['--edges', 'normal,build,dev', '--prefix', 'none', '--format', '{p}|{l}'];
  const output = execFileSync('cargo', ['tree', '--workspace', '--locked', ...targets, ...shape], {
    cwd: top,
    env: cargoEnv,
    encoding: 'utf8',
    maxBuffer: TREE_LIMIT_BYTES,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const crates = new Map();
  for (const line of output.split('\n')) {
    const found =
      /^(?<name>\S+) v(?<version>\S+)(?: \(proc-macro\))?(?: \((?<source>[^*]+)\))?\|(?<license>.*?)(?: \(\*\))?$/.exec(
        line,
      );
    if (found) crates.set(`${found.groups.name} ${found.groups.version}`, found.groups);
    else if (line !== '') throw new Failure(`cargo tree: cannot read "${line}"`);
  }
  const all = [...crates.values()];
  const problems = all.flatMap((crate) => problemsOfCrate(crate, top));
  for (const name of rules.onlyOnce) {
    const versions = all.filter((crate) => crate.name === name).map((crate) => crate.version);
    if (versions.length > 1) problems.push(`crate ${name}: more than one version (${versions.join(', ')})`);
  }
  return { count: all.length, problems };
}

function problemsOfCrate({ name, version, license, source }, top) {
  const problems = [];
  const crate = `crate ${name} ${version}`;
  if (!isAllowed(license, allowed)) problems.push(`${crate}: licence ${license || 'unknown'} is not allowed`);
  if (Object.hasOwn(rules.bannedCrates, name)) problems.push(`${crate}: ${rules.bannedCrates[name]}`);
  if (source && !source.startsWith(top)) problems.push(`${crate}: not from a registry (${source})`);
  return problems;
}

function checkPackages(top) {
  const lock = JSON.parse(readFileSync(join(top, 'package-lock.json'), 'utf8'));
  const packages = Object.entries(lock.packages).filter(([path]) => path !== '');
  return {
    count: packages.length,
    problems: packages.flatMap(([path, entry]) => problemsOfPackage(path, entry)),
  };
}

function problemsOfPackage(path, { version, license, integrity, inBundle, link, dev }) {
  const problems = [];
  const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const title = `npm package ${name} ${version}`;
  if (!license || !isAllowed(license, allowed))
    problems.push(`${title}: licence ${license ?? 'unknown'} is not allowed`);
  if (!dev && Object.hasOwn(rules.bannedPackages, name))
    problems.push(`${title}: ${rules.bannedPackages[name]}`);
  if (link || (!integrity && !inBundle)) problems.push(`${title}: no checksum, so not from a registry`);
  return problems;
}
