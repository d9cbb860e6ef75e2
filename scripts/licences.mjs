// May everything we depend on be shipped, and is nothing among it that we have decided against?
//
//     node scripts/licences.mjs [--root FOLDER]
//
// Offline: it reads `cargo metadata` and `package-lock.json`, no database. The rules are in `licences.json`.
// Crates are those of every platform we ship for; each must come from the crates.io registry or from this tree.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Failure, main, say } from './lib/run.mjs';
import { isAllowed } from './lib/spdx.mjs';
import { cargoEnv, manifest, needCargo, root } from './lib/toolchain.mjs';

const rules = JSON.parse(readFileSync(new URL('./licences.json', import.meta.url), 'utf8'));
const allowed = new Set(rules.allowed);
const METADATA_LIMIT_BYTES = 256 * 1024 * 1024;

await main(() => {
  const { values } = parseArgs({ options: { root: { type: 'string', default: root } } });
  const top = resolve(values.root);
  const crates = existsSync(join(top, 'Cargo.toml')) ? checkCrates(top) : nothing();
  const packages = existsSync(join(top, 'package-lock.json')) ? checkPackages(top) : nothing();
  const problems = [...crates.problems, ...packages.problems];
  if (problems.length > 0) throw new Failure(`${problems.length} dependencies break a rule\n  ${problems.join('\n  ')}`);
  say(`${crates.count} crates and ${packages.count} npm packages: licences and bans hold`);
});

function nothing() {
  return { count: 0, problems: [] };
}

function checkCrates(top) {
  needCargo();
  const platforms = manifest.napi.targets.flatMap((target) => ['--filter-platform', target]);
  const output = execFileSync('cargo', ['metadata', '--locked', '--format-version', '1', ...platforms], {
    cwd: top,
    env: cargoEnv,
    encoding: 'utf8',
    maxBuffer: METADATA_LIMIT_BYTES,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { packages, resolve: graph } = JSON.parse(output);
  const used = new Set(graph.nodes.map((node) => node.id));
  const crates = packages.filter((crate) => used.has(crate.id));
  const problems = crates.flatMap(problemsOfCrate);
  for (const name of rules.onlyOnce) {
    const versions = crates.filter((crate) => crate.name === name).map((crate) => crate.version);
    if (versions.length > 1) problems.push(`crate ${name}: more than one version (${versions.join(', ')})`);
  }
  return { count: crates.length, problems };
}

function problemsOfCrate({ name, version, license, source }) {
  const problems = [];
  const crate = `crate ${name} ${version}`;
  if (!license || !isAllowed(license, allowed)) problems.push(`${crate}: licence ${license ?? 'unknown'} is not allowed`);
  if (Object.hasOwn(rules.bannedCrates, name)) problems.push(`${crate}: ${rules.bannedCrates[name]}`);
  if (source !== null && !/^(registry|sparse)\+/.test(source)) problems.push(`${crate}: not from a registry (${source})`);
  return problems;
}

function checkPackages(top) {
  const lock = JSON.parse(readFileSync(join(top, 'package-lock.json'), 'utf8'));
  const packages = Object.entries(lock.packages).filter(([path]) => path !== '');
  return { count: packages.length, problems: packages.flatMap(([path, entry]) => problemsOfPackage(path, entry)) };
}

function problemsOfPackage(path, { version, license, integrity, inBundle, link }) {
  const problems = [];
  const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const title = `npm package ${name} ${version}`;
  if (!license || !isAllowed(license, allowed)) problems.push(`${title}: licence ${license ?? 'unknown'} is not allowed`);
  if (Object.hasOwn(rules.bannedPackages, name)) problems.push(`${title}: ${rules.bannedPackages[name]}`);
  if (link || (!integrity && !inBundle)) problems.push(`${title}: no checksum, so not from a registry`);
  return problems;
}
