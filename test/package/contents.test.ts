// Do the packed packages work for those who install them: as a module, through `require`, and for TypeScript?

import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import test from 'ava';
import { publint } from 'publint';
import { node, root } from '../house/support.js';
import { must } from '../support/processes.js';
import { INSTALL_MS, Projects, mainTarball, npm, platformTarball, type } from './support.js';

const kinds = ['module', 'commonjs'] as const;
const projects = new Projects();
const { folder } = projects;

interface Manifest {
  name: string;
  version: string;
  optionalDependencies: Record<string, string>;
  [key: string]: unknown;
}

const manifestOf = (project: string, name: string): Manifest =>
  JSON.parse(readFileSync(join(project, 'node_modules', name, 'package.json'), 'utf8')) as Manifest;

/** The package for this platform, as npm has installed it beside the other. */
const platformPackage = (): string => {
  const { optionalDependencies } = manifestOf(join(folder, 'module'), '@mesh/proxy');
  const isInstalled = (name: string): boolean => existsSync(join(folder, 'module', 'node_modules', name));
  return Object.keys(optionalDependencies).find(isInstalled) ?? '';
};

/** The files in a tarball, sorted. */
async function list(tarball: string): Promise<string[]> {
  const lines = (await must('tar', ['-tzf', tarball])).trimEnd().split('\n');
  return lines.map((line) => line.replace(/^package\//, '')).toSorted();
}

test.before(async (t) => {
  t.timeout(INSTALL_MS);
  for (const kind of kinds) await projects.make(kind, kind, [mainTarball, platformTarball]);
});

test.after.always(() => projects.remove());

test('the package holds the modules and their types, and nothing that is compiled or of ours alone', async (t) => {
  const packed = await list(mainTarball);
  for (const path of [
    'package.json',
    'LICENSE',
    'NOTICES.txt',
    'README.md',
    'CHANGELOG.md',
    'dist/index.js',
    'dist/index.d.ts',
    'dist/index.cjs',
    'dist/cli/main.js',
    'dist/register.js',
    'dist/wasm/mesh.wasm',
  ]) {
    t.true(packed.includes(path), path);
  }
  t.deepEqual(
    packed.filter((path) =>
      /^(src|test|crates|scripts|bench)\/|\.(test\.|rs$|node$)|\.d\.ts\.map$|^dist\/(demo|native)\//.test(
        path,
      ),
    ),
    [],
  );
  t.true(statSync(mainTarball).size < 2_000_000);
  const types = join(folder, 'module', 'node_modules', '@mesh', 'proxy', 'dist', 'index.d.ts');
  t.notRegex(readFileSync(types, 'utf8'), /sourceMappingURL/, 'a map that is not there');
});

test("the platform's package holds the addon, the sidecar and their licences", async (t) => {
  const platform = platformPackage().slice('@mesh/proxy-'.length);
  t.deepEqual(await list(platformTarball), [
    'LICENSE',
    'NOTICES.txt',
    'README.md',
    'mesh-sidecar',
    `mesh.${platform}.node`,
    'package.json',
  ]);
  const notices = readFileSync(
    join(folder, 'module', 'node_modules', platformPackage(), 'NOTICES.txt'),
    'utf8',
  );
  for (const crate of ['tokio', 'rustls', 'aws-lc-sys', 'h2'])
    t.regex(notices, new RegExp(`^  ${crate} [\\d.]+: `, 'm'), crate);
  t.notRegex(notices, /^ {2}mesh-/m);
});

test('npm takes the package that fits: of this very version, by system, processor and C library', (t) => {
  const project = join(folder, 'module');
  const main = manifestOf(project, '@mesh/proxy');
  t.deepEqual(Object.values(main.optionalDependencies), Array<string>(6).fill(main.version));
  for (const key of ['scripts', 'devDependencies', 'overrides', 'napi']) t.false(key in main, key);
  // A first publish of a name with a scope is for those who pay, otherwise.
  t.like(main, { publishConfig: { access: 'public' } });
  const platform = manifestOf(project, platformPackage());
  t.is(platform.version, main.version);
  t.like(platform, { publishConfig: { access: 'public' } });
  const libc = /-(gnu|musl)$/.exec(platform.name)?.[1];
  t.like(platform, {
    os: [process.platform],
    cpu: [process.arch],
    ...(libc && { libc: [libc === 'gnu' ? 'glibc' : 'musl'] }),
  });
  for (const key of ['scripts', 'dependencies']) t.false(key in platform, key);
});

test('a package from git has what is compiled beside the modules, and nothing of ours alone', async (t) => {
  const clone = join(folder, 'clone');
  const inside = ['dist/index.js', 'dist/native/mesh-sidecar', 'dist/native/mesh.linux-x64-gnu.node'];
  const outside = [
    'dist/demo/main.js',
    'dist/index.d.ts.map',
    'src/index.ts',
    'test/index.test.ts',
    'Cargo.toml',
  ];
  for (const file of [...inside, ...outside]) {
    mkdirSync(dirname(join(clone, file)), { recursive: true });
    writeFileSync(join(clone, file), '');
  }
  copyFileSync('package.json', join(clone, 'package.json'));
  const output = await npm(['pack', '--dry-run', '--json'], clone);
  const [{ files }] = JSON.parse(output) as [{ files: { path: string }[] }];
  t.deepEqual(files.map(({ path }) => path).toSorted(), [...inside, 'package.json']);
});

test('publishing rules hold', async (t) => {
  for (const name of ['@mesh/proxy', platformPackage()]) {
    const { messages } = await publint({ pkgDir: join(folder, 'module', 'node_modules', name), pack: false });
    const broken = messages.filter((message) => message.type !== 'suggestion');
    t.deepEqual(
      broken.map(({ code, path }) => `${code} ${path.join('.')}`),
      [],
      name,
    );
  }
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

test('what one build has loaded, the other takes', async (t) => {
  const mixed = `
    import { createRequire } from 'node:module';
    import * as esm from '@mesh/proxy';
    const cjs = createRequire(import.meta.url)('@mesh/proxy');
    for (const [one, other] of [[esm, cjs], [cjs, esm]]) {
      const mesh = one.parseMesh('services: { web: {} }');
      await other.createControlPlane(mesh).close();
      const config = one.parseConfig('listeners: [{ address: "127.0.0.1:0", to: "127.0.0.1:1" }]');
      const proxy = other.createProxy(config);
      await proxy.listen();
      await proxy.close();
    }
    console.log(esm.parseMesh === cjs.parseMesh);`;
  const ended = await node(['--input-type=module', '-e', mixed], process.env, join(folder, 'module'));
  t.deepEqual(ended, { code: 0, stdout: 'false\n', stderr: '' });
});

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

test('the commands are installed', async (t) => {
  for (const kind of kinds) {
    const project = join(folder, kind);
    const { version } = manifestOf(project, '@mesh/proxy');
    t.like(await type('npx mesh version', project), { code: 0, stderr: '' });
    t.like(await type('npx mesh-sidecar --version', project), {
      code: 0,
      stdout: `mesh-sidecar ${version}\n`,
    });
  }
});
