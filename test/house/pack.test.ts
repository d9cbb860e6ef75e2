// Does the packed package work for those who install it: as a module, through `require`, and for TypeScript?
//
// Two empty projects, one of each kind, install the tarball as users do; nothing of this tree is in reach of them.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import test from 'ava';
import { publint } from 'publint';
import { node, program, root } from './support.js';

const kinds = ['module', 'commonjs'] as const;
const folder = mkdtempSync(join(tmpdir(), 'pack-'));
let packed: string[] = [];

/** npm as a user starts it: without the variables that the npm around this test has set. */
async function npm(args: string[], cwd: string): Promise<string> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name));
  const { code, stdout, stderr } = await program('npm', args, Object.fromEntries(inherited), cwd);
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

test.before(async (t) => {
  t.timeout(120_000);
  // The build that is under test is in place: npm must not start another one.
  const output = await npm(['pack', '--ignore-scripts', '--json', '--pack-destination', folder], root);
  const [{ filename, files }] = JSON.parse(output) as [{ filename: string; files: { path: string }[] }];
  packed = files.map((file) => file.path);
  await Promise.all(
    kinds.map(async (type) => {
      const project = join(folder, type);
      mkdirSync(project);
      writeFileSync(join(project, 'package.json'), JSON.stringify({ type }));
      // Neither it nor what it needs may have to run anything to be installed.
      const how = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'];
      await npm(['install', ...how, join(folder, filename)], project);
    }),
  );
});

test.after.always(() => rmSync(folder, { recursive: true, force: true }));

test('the tarball holds the modules, their types and the native core, and nothing of ours alone', (t) => {
  for (const path of [
    'package.json',
    'LICENSE',
    'README.md',
    'dist/index.js',
    'dist/index.d.ts',
    'dist/index.cjs',
    'dist/wasm/mesh.wasm',
  ]) {
    t.true(packed.includes(path), path);
  }
  t.true(packed.some((path) => path.startsWith('dist/native/') && path.endsWith('.node')));
  t.deepEqual(
    packed.filter((path) =>
      /^(src|test|crates|scripts|bench)\/|\.test\.|\.d\.ts\.map$|^dist\/demo\//.test(path),
    ),
    [],
  );
});

test('publishing rules hold', async (t) => {
  const { messages } = await publint({
    pkgDir: join(folder, 'module', 'node_modules', '@mesh', 'proxy'),
    pack: false,
  });
  t.deepEqual(
    messages.filter(({ type }) => type !== 'suggestion').map(({ code, path }) => `${code} ${path.join('.')}`),
    [],
  );
});

test('import and require give the same names', async (t) => {
  const print = 'console.log(JSON.stringify(Object.keys(mesh).sort()))';
  const esm = await node(
    ['--input-type=module', '-e', `import * as mesh from '@mesh/proxy'; ${print}`],
    process.env,
    join(folder, 'module'),
  );
  const cjs = await node(
    ['-e', `const mesh = require('@mesh/proxy'); ${print}`],
    process.env,
    join(folder, 'commonjs'),
  );
  t.is(esm.code, 0, esm.stderr);
  t.is(cjs.code, 0, cjs.stderr);
  t.is(esm.stdout, cjs.stdout);
  t.true((JSON.parse(esm.stdout) as string[]).includes('createProxy'));
  t.is(esm.stderr + cjs.stderr, '');
});

for (const [kind, loaded] of [
  ['module', "import('@mesh/proxy/wasm')"],
  ['commonjs', "Promise.resolve(require('@mesh/proxy/wasm'))"],
] as const) {
  test(`WebAssembly is found in a project of type ${kind}`, async (t) => {
    const ask = `${loaded}.then(({ loadModel }) => loadModel()).then((model) => console.log(model.validate('{')[0].code))`;
    const { code, stdout, stderr } = await node(['-e', ask], process.env, join(folder, kind));
    t.is(code, 0, stderr);
    t.is(stdout, 'syntax\n');
  });
}

/** Serves one request through a proxy, and ends. */
const USE = `
const { addresses: [{ address }] } = await listen();
const response = await fetch('http://' + address + '/hello');
console.log(response.status, await response.text());
await proxy.close();
`;
const MAKE = `
const proxy = createProxy({
  listeners: [{ address: '127.0.0.1:0', routes: [{ respond: { status: 200, body: 'hello' } }] }],
});
const listen = () => proxy.listen();
`;

test('a proxy serves from an ES module and from CommonJS, and the process ends by itself', async (t) => {
  const esm = `import { createProxy } from '@mesh/proxy'; ${MAKE} ${USE}`;
  const cjs = `const { createProxy } = require('@mesh/proxy'); ${MAKE} (async () => { ${USE} })();`;
  for (const [kind, args] of [
    ['module', ['--input-type=module', '-e', esm]],
    ['commonjs', ['-e', cjs]],
  ] as const) {
    const { code, stdout, stderr } = await node([...args], process.env, join(folder, kind));
    t.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '200 hello\n', stderr: '' }, kind);
  }
});

test('without the core for a platform it says which there are and what to do', async (t) => {
  const source = `
    Object.defineProperty(process, 'arch', { value: 'abacus' });
    try { require('@mesh/proxy').createProxy({}); } catch ({ code, message }) { console.log(code, message); }`;
  const { stdout } = await node(['-e', source], process.env, join(folder, 'commonjs'));
  t.regex(
    stdout,
    /^MESH_CORE_UNAVAILABLE there is no native core for \w+-abacus\S* in this package, which has [\w-]+; in a clone/,
  );
});

for (const kind of kinds) {
  test(`TypeScript finds the types in a project of type ${kind}`, async (t) => {
    t.timeout(120_000);
    const project = join(folder, kind);
    writeFileSync(
      join(project, 'use.ts'),
      "import { createProxy } from '@mesh/proxy';\nexport const make: typeof createProxy = createProxy;\n// @ts-expect-error: it is no number\nexport const wrong: number = createProxy;\n" +
        "import { type Decision, loadModel } from '@mesh/proxy/wasm';\n" +
        "export const decide = async (): Promise<Decision> => (await loadModel()).route('{}', { url: '/' });\n",
    );
    const types = ['--types', 'node', '--typeRoots', resolve(root, 'node_modules/@types')];
    const how = [
      '--noEmit',
      '--strict',
      '--target',
      'es2023',
      '--module',
      'node16',
      '--moduleResolution',
      'node16',
      '--lib',
      'es2023,esnext.disposable',
    ];
    const tsc = resolve(root, 'node_modules/typescript/bin/tsc');
    const { code, stdout } = await node([tsc, ...how, ...types, 'use.ts'], process.env, project);
    t.is(code, 0, stdout);
  });
}

test('the command is installed', async (t) => {
  for (const kind of kinds) {
    const { code, stderr } = await program(join(folder, kind, 'node_modules', '.bin', 'mesh'), ['version']);
    t.is(code, 0, stderr);
  }
});
