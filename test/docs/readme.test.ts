// Does everything that the README tells people to type work?
//
// Every command in it stands in the table below with what runs it; one that doesn't is a failure. Ports are exchanged
// for free ones, and what is started goes on until the end of the test, so that later commands find it.

import { readFileSync, writeFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { node } from '../house/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { type Running, must, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { until, within } from '../support/wait.js';
import { Ports, blocks, page } from './support.js';

/** Commands stand alone on lines that are indented by four. */
const prose = page('README.md').replaceAll(/^```[^]*?^```$/gm, '');
const commands = Array.from(prose.matchAll(/^ {4}(\S.*)$/gm), ([, line = '']) => line);

interface World {
  readonly t: ExecutionContext;
  readonly ports: Ports;
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  /** The proxy that the commands before have started. */
  proxy?: Running;
}

const main = join(process.cwd(), 'dist', 'cli', 'main.js');
const words = (line: string): string[] => line.split(' ');

const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as {
  name: string;
  scripts: Record<string, string>;
};

function hasScript({ t }: World, line: string): void {
  t.true((words(line).at(-1) ?? '') in manifest.scripts, line);
}

/** `npx mesh ...` is the command of this tree. */
function mesh({ folder, env }: World, line: string): Promise<string> {
  return must(process.execPath, [main, ...words(line).slice(2)], { cwd: folder, env });
}

async function curl({ t }: World, line: string): Promise<void> {
  await until(`${line} answers`, () =>
    fetch(words(line).at(-1) ?? '').then(
      ({ status }) => t.is(status, 200),
      () => false,
    ),
  );
}

const runners: [RegExp, (world: World, line: string) => unknown][] = [
  // Run by test/demo/start.test.ts, by whoever runs this test, and by nobody in a test: it takes half an hour.
  [/^npm start$/, hasScript],
  // Done by test/package, with the packages that are about to be published.
  [/^npm install @mesh\/proxy$/, ({ t }) => t.is(manifest.name, '@mesh/proxy')],
  [/^npm test$/, hasScript],
  [/^npm run bench$/, hasScript],
  [/^npm run build$/, ({ env }) => must('npm', ['run', 'build'], { env, patienceMs: 120_000 })],
  [
    /^target\/release\/mesh-sidecar /,
    async (world, line) => {
      const { t, env } = world;
      world.proxy = start(t, sidecarFile(), words(line).slice(1), {
        env: { ...env, MESH_ADMIN: `127.0.0.1:${await world.ports.of('4191')}` },
      });
      await world.proxy.said(/listens on/);
    },
  ],
  [/^curl http:/, curl],
  [/^npx mesh validate /, async (world, line) => world.t.regex(await mesh(world, line), /^mesh\.yaml: ok, /)],
  [
    /^npx mesh run -c /,
    async (world, line) => {
      const { t, folder, env, ports } = world;
      await world.proxy?.kill();
      const running = start(t, process.execPath, [main, ...words(line).slice(2)], {
        cwd: folder,
        env: { ...env, MESH_ADMIN: `127.0.0.1:${await ports.of('4191')}` },
      });
      world.proxy = running;
      await until('it listens', () => running.stdout().toString().includes('listening on'));
    },
  ],
  [
    /^npx mesh stats$/,
    async (world, line) => {
      const port = await world.ports.of('8080');
      t200(world, await fetch(`http://127.0.0.1:${port}/`));
      const admin = `127.0.0.1:${await world.ports.of('4191')}`;
      const said = await mesh({ ...world, env: { ...world.env, MESH_ADMIN: admin } }, line);
      world.t.regex(said, /^web\t\*\tsite\thttp1\t1\t100\.00 %/m);
      world.proxy?.signal('SIGINT');
      world.proxy?.signal('SIGINT');
      if (world.proxy) await within('its end', world.proxy.exit);
    },
  ],
];

function t200({ t }: World, { status }: Response): void {
  t.is(status, 200);
}

test('every command of the README works, in its order', async (t) => {
  t.timeout(240_000);
  const origin = await httpOrigin(t);
  const ports = new Ports({ 3000: origin.port });
  const folder = temporaryFolder(t);
  const [config = ''] = blocks('README.md', 'yaml');
  writeFileSync(join(folder, 'mesh.yaml'), await ports.in(config));
  const world: World = { t, ports, folder, env: cleanEnvironment() };
  t.true(commands.length >= 8);
  for (const line of commands) {
    const runner = runners.find(([pattern]) => pattern.test(line));
    if (!runner) t.fail(`no test runs this command: ${line}`);
    else await runner[1](world, await ports.in(line));
  }
});

test('the code of the README serves', async (t) => {
  const hello: RequestListener = (_, response) => response.end('hello');
  const [one, two] = await Promise.all([httpOrigin(t, hello), httpOrigin(t, hello)]);
  const ports = new Ports({ 3000: one.port, 3001: two.port });
  const [code = ''] = blocks('README.md', 'js');
  t.true(code.split('\n').filter(Boolean).length <= 10, 'ten lines');
  const ask = "console.log(await (await fetch('http://127.0.0.1:8080/')).text());\nawait proxy.close();\n";
  const {
    code: exit,
    stdout,
    stderr,
  } = await node(['--input-type=module', '-e', await ports.in(code + ask)]);
  t.deepEqual({ exit, stdout, stderr }, { exit: 0, stdout: 'hello\n', stderr: '' });
});

test('its numbers are those of the last run that was kept', (t) => {
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
