// Whose code is in what we compile, and under which terms?
//
// MIT, BSD and the like are met by handing on the notice that came with the code. So what is published holds the licence
// files of every crate that is linked into it, each text once. Offline: cargo has the sources that it has compiled.

import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Failure } from './run.mjs';
import { cargoEnv, root, rustcVersion } from './toolchain.mjs';

const LICENCE_FILE = /^(licen[cs]e|copying|copyright|notice|unlicense)/i;
const OUTPUT_LIMIT_BYTES = 256 * 1024 * 1024;

/** The notices for `crates` of ours as one text. `target` is what they are compiled for. */
export function notices(crates, target) {
  const texts = new Map();
  const linked = linkedInto(crates, target);
  for (const crate of linked) {
    for (const text of licenceTexts(crate)) {
      const key = text.replaceAll(/\s+/g, ' ');
      texts.set(key, { text, owners: [...(texts.get(key)?.owners ?? []), titleOf(crate)] });
    }
  }
  const list = linked.map((crate) => `  ${titleOf(crate)}: ${crate.license}`);
  const rule = '='.repeat(80);
  const sections = [...texts.values()].map(
    ({ text, owners }) => `${rule}\n${owners.join(', ')}\n${rule}\n\n${text.trim()}\n`,
  );
  return [
    `This software holds compiled code of others:\n\n${list.join('\n')}\n  ${rustcVersion().split('\n')[0]}, its standard library: MIT OR Apache-2.0\n`,
    ...sections,
  ].join('\n');
}

const titleOf = ({ name, version }) => `${name} ${version}`;

/** The crates of others that end up in the product: not those that only build it. Sorted, so that the text is stable. */
function linkedInto(crates, target) {
  const of = crates.flatMap((name) => ['--package', name]);
  const shape = ['--edges', 'normal,no-proc-macro', '--prefix', 'none', '--format', '{p}'];
  const tree = cargo('tree', '--locked', ...of, '--target', target, ...shape);
  const names = new Set(tree.split('\n').map((line) => /^(\S+) v(\S+)/.exec(line)?.slice(1).join(' ') ?? ''));
  const { packages } = JSON.parse(
    cargo('metadata', '--locked', '--format-version', '1', '--filter-platform', target),
  );
  return packages
    .filter((crate) => crate.source !== null && names.has(titleOf(crate)))
    .toSorted((a, b) => (titleOf(a) < titleOf(b) ? -1 : 1));
}

function licenceTexts(crate) {
  const folder = dirname(crate.manifest_path);
  const files = readdirSync(folder).filter((name) => LICENCE_FILE.test(name));
  // Some only name their licence; then that is all there is to hand on.
  if (files.length === 0 && !crate.license) throw new Failure(`crate ${titleOf(crate)} has no licence`);
  return files.toSorted().map((name) => readFileSync(join(folder, name), 'utf8'));
}

function cargo(...args) {
  return execFileSync('cargo', args, {
    cwd: root,
    env: cargoEnv,
    encoding: 'utf8',
    maxBuffer: OUTPUT_LIMIT_BYTES,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}
