// Does everything that the README tells people to type work?
//
// Ports are exchanged for free ones, and what is started goes on until the end of the test, so that later commands find
// it. `npm start` is run by test/demo, `npm install` by test/package with the packages that are about to be published.

import { readFileSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { files, node } from '../house/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { must } from '../support/processes.js';
import { until } from '../support/wait.js';
import { Ports, Shell, example, page, printed } from './support.js';

/** Whatever builds on a machine that has not built it yet. */
const BUILD_MS = 600_000;

const lines = (name: string): string[] => name.trim().split('\n');

test.serial('beside a server: built, started, asked', async (t) => {
  t.timeout(BUILD_MS);
  const shell = await open(t);
  const [build = '', sidecar = '', ...asked] = lines(example('README.md', 'sidecar'));
  await must('sh', ['-c', build], { patienceMs: BUILD_MS });
  t.true(sidecar.startsWith('target/release/mesh-sidecar '));
  // The build of the tests has another folder.
  await shell.serve(sidecar.replace('target/release/', ''));
  for (const curl of asked) t.not(await shell.type(`${curl} --fail`), '');
});

test.serial('with a configuration: checked, served, told of', async (t) => {
  const shell = await open(t);
  await shell.write('mesh.yaml', example('README.md', 'mesh.yaml'));
  // Here `mesh` is a program; that npx finds the one that is installed is seen by test/package.
  const typed = example('README.md', 'run').replaceAll(/^npx /gm, '');
  const [validate = '', run = '', stats = ''] = lines(typed);
  t.regex(await shell.type(validate), /^mesh\.yaml: ok, /);
  await printed(await shell.stay(run), /listening on/);
  t.is((await request(await shell.ports.of('8080'))).status, 200);
  // A request is counted as a success a moment after its response.
  const row = /^web\t\*\tsite\thttp1\t1\t100\.00 %/m;
  t.true(await until('the request is counted', async () => row.test(await shell.type(stats))));
});

/** A shell in which the proxy's admin server is where the README has it, and a server answers at 3000. */
async function open(t: ExecutionContext): Promise<Shell> {
  const ports = new Ports({ 3000: (await httpOrigin(t)).port });
  return Shell.open(t, ports, { MESH_ADMIN: `127.0.0.1:${await ports.of('4191')}` });
}

/** It pins the proxy and its load to a core each. */
const testOfBench = process.platform === 'linux' && availableParallelism() > 1 ? test.serial : test.skip;

testOfBench('the benchmark ends with a table', async (t) => {
  t.timeout(BUILD_MS);
  const out = temporaryFolder(t);
  const smallest = `-- --only h1-100 --peers sidecar --rounds 1 --seconds 0.2 --out ${out}`;
  const bench = `${example('README.md', 'bench').trim()} ${smallest}`;
  t.regex(await must('sh', ['-c', bench], { patienceMs: BUILD_MS }), /HTTP\/1 keep-alive, 100 B/);
  t.regex(readFileSync(join(out, 'latest.md'), 'utf8'), /^\| HTTP\/1 keep-alive, 100 B, 50 connections \|/m);
});

test.serial('the commands of the benchmark have options that it takes', async (t) => {
  for (const line of lines(example('bench/README.md', 'some'))) {
    // It reads them all before it helps, and a whole run takes half an hour.
    t.regex(await must('sh', ['-c', line.replace(/#.*|$/, ' --help')]), /^npm run bench \[/m, line);
  }
});

test.serial('the checks run, and the formatters write what was written otherwise', async (t) => {
  t.timeout(BUILD_MS);
  const [check = '', format = ''] = lines(example('README.md', 'test'));
  // All of them are what runs this test.
  t.regex(await must('sh', ['-c', `${check} -- types`], { patienceMs: BUILD_MS }), /^1 passed, 0 failed$/m);
  const copy = temporaryFolder(t);
  for (const file of files()) await cp(file, join(copy, file));
  // What npm installed, as far as a formatter of TypeScript goes.
  for (const part of ['.package-lock.json', 'oxfmt', '@oxfmt', 'tinypool']) {
    await cp(join('node_modules', part), join(copy, 'node_modules', part), { recursive: true });
  }
  for (const file of ['src/errors.ts', 'crates/model/src/lib.rs']) {
    writeFileSync(join(copy, file), readFileSync(file, 'utf8').replaceAll(/^ +/gm, ''));
  }
  await must('sh', ['-c', format], { cwd: copy, patienceMs: BUILD_MS });
  for (const file of files()) t.true(readFileSync(join(copy, file)).equals(readFileSync(file)), file);
});

test.serial('the code of the README serves', async (t) => {
  const hello: RequestListener = (_, response) => response.end('hello');
  const [one, two] = await Promise.all([httpOrigin(t, hello), httpOrigin(t, hello)]);
  const ports = new Ports({ 3000: one.port, 3001: two.port });
  const code = example('README.md', 'embed');
  t.true(code.split('\n').filter(Boolean).length <= 10, 'ten lines');
  const ask = "console.log(await (await fetch('http://127.0.0.1:8080/')).text());\nawait proxy.close();\n";
  const {
    code: exit,
    stdout,
    stderr,
  } = await node(['--input-type=module', '-e', await ports.in(code + ask)]);
  t.deepEqual({ exit, stdout, stderr }, { exit: 0, stdout: 'hello\n', stderr: '' });
});

test.serial('its numbers are those of the last run that was kept', (t) => {
  const cells = (line: string): string[] => line.split('|').map((cell) => cell.trim());
  const tables = (text: string): string[][] =>
    text
      .split('\n')
      .filter((line) => /^\| .*\d/.test(line))
      .map(cells);
  const kept = tables(readFileSync('bench/results/latest.md', 'utf8'));
  const section = /^## The numbers$([^]*?)^## /m.exec(page('README.md'))?.[1] ?? '';
  const rows = tables(section);
  t.true(rows.length > 10);
  for (const [, title, unit, ours, required] of rows) {
    const row = kept.find((each) => each[1] === title);
    t.deepEqual(row?.slice(2, 5), [unit, ours, required], title);
  }
});
