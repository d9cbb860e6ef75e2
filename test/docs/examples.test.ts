// Is there an example in the manual that no test runs?
//
// An example is a fenced block, with a name behind its language: ```sh revoke. The test that runs it takes it from its page
// by that name, with `example(PAGE, NAME)`, so what is run is what is read.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { files } from '../house/support.js';
import { examples, page, pages } from './support.js';

const manual = ['README.md', 'bench/README.md', ...pages];

/** Which test files take which example. */
const runners = new Map<string, Set<string>>();
for (const file of files().filter((name) => /^test\/.*\.ts$/.test(name))) {
  const taken = readFileSync(file, 'utf8').matchAll(/\bexample\(\s*'([^']+)',\s*'([^']+)',?\s*\)/g);
  for (const [, path, name] of taken) {
    const example = `${path}: ${name}`;
    runners.set(example, (runners.get(example) ?? new Set()).add(file));
  }
}

test('every example is run by a test, which takes it from its page', (t) => {
  const unclaimed: string[] = [];
  for (const path of manual) {
    for (const { name } of examples(path)) {
      const who = runners.get(`${path}: ${name}`);
      if (who) t.log(`${path}: ${name} is run by ${[...who].join(', ')}`);
      else unclaimed.push(`example('${path}', '${name}') is in no test`);
    }
  }
  t.deepEqual(unclaimed, []);
});

test('every example has a fence, a language and a name of its own', (t) => {
  for (const path of manual) {
    const all = examples(path);
    for (const { language, name } of all)
      t.true(language !== '' && name !== '', `${path}: ${language} ${name}`);
    t.is(new Set(all.map(({ name }) => name)).size, all.length, `${path}: two examples have the same name`);
    const prose = page(path).replaceAll(/^```[^]*?^```$/gm, '');
    t.notRegex(prose, /^( {4}\S|```)/m, `${path}: code without a fence`);
  }
});
