// npm run pack: what is published, for this platform, as two tarballs.
//
//     @mesh/proxy                  the TypeScript, compiled, and WebAssembly: the same on every platform
//     @mesh/proxy-linux-x64-gnu    the addon and the program `mesh-sidecar`, and whose code is in them
//
// The first names those of all platforms as optional dependencies, of which npm installs the one that fits: no script
// runs where somebody installs, and nothing is downloaded but from the registry. (`npm pack` in a clone is for those
// who install from git: one package with what this machine has built.)

import { cpSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ensureNative, ensureTypeScript, ensureWasm } from './lib/artefacts.mjs';
import { notices } from './lib/notices.mjs';
import { platformOf } from './lib/platforms.mjs';
import { Failure, main, must, say } from './lib/run.mjs';
import {
  hostTriple,
  manifest,
  nativeFiles,
  nativeFolder,
  packagesPath,
  platformName,
  profile,
  root,
} from './lib/toolchain.mjs';

const { name, version, license, repository, publishConfig, engines } = manifest;
const platforms = manifest.napi.targets.map(platformOf);
const packageOf = (platform) => `${name}-${platform.name}`;

await main(async () => {
  const platform = platforms.find((each) => each.name === platformName());
  if (!platform) {
    const names = platforms.map((each) => each.name).join(', ');
    throw new Failure(
      `there is no package for ${platformName()}, but for ${names}.\n` +
        '  `npm run build` builds for this machine; a platform gets a package by its target in package.json, napi.targets',
    );
  }
  await ensureTypeScript();
  await ensureWasm();
  await ensureNative(profile);
  const folder = packagesPath(profile);
  rmSync(folder, { recursive: true, force: true });
  const packages = [stageMain(join(folder, 'proxy')), stagePlatform(join(folder, platform.name), platform)];
  for (const staged of packages) {
    await must('npm', ['pack', '--silent', '--pack-destination', folder, staged], { cwd: folder });
  }
  for (const file of readdirSync(folder).filter((each) => each.endsWith('.tgz'))) {
    const bytes = statSync(join(folder, file)).size;
    say(`${relative(root, join(folder, file))} ${(bytes / 1e6).toFixed(2)} MB`);
  }
});

/** What users import and run. */
function stageMain(folder) {
  mkdirSync(folder, { recursive: true });
  cpSync(join(root, 'dist'), join(folder, 'dist'), {
    recursive: true,
    filter: (path) => path !== nativeFolder,
  });
  for (const file of ['README.md', 'LICENSE', 'CHANGELOG.md']) cpSync(join(root, file), join(folder, file));
  writeFileSync(join(folder, 'NOTICES.txt'), notices(['mesh-wasm'], 'wasm32-unknown-unknown'));
  // What only a clone needs is left out.
  const { scripts: _, devDependencies: __, overrides: ___, napi: ____, ...published } = manifest;
  const optionalDependencies = Object.fromEntries(platforms.map((each) => [packageOf(each), version]));
  writeManifest(folder, { ...published, files: [...manifest.files, 'NOTICES.txt'], optionalDependencies });
  return folder;
}

/** What is compiled for one platform. */
function stagePlatform(folder, { name: title, os, cpu, libc }) {
  mkdirSync(folder, { recursive: true });
  const compiled = nativeFiles(profile);
  for (const [file, from] of Object.entries(compiled)) cpSync(from, join(folder, file));
  const files = Object.keys(compiled);
  const [addon, sidecar] = files;
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
  writeFileSync(join(folder, 'NOTICES.txt'), notices(['mesh-node', 'mesh-sidecar'], hostTriple()));
  writeFileSync(
    join(folder, 'README.md'),
    `# ${name}-${title}\n\nWhat [${name}](${repository.url.replace(/^git\+/, '')}) has compiled for ${title}: its core as an addon for Node,\nand the program \`mesh-sidecar\`. It comes with that package and is of no use without it.\n`,
  );
  writeManifest(folder, {
    name: `${name}-${title}`,
    version,
    description: `The native half of ${name} for ${title}`,
    license,
    repository,
    bin: { 'mesh-sidecar': `./${sidecar}` },
    files: [...files, 'NOTICES.txt'],
    main: `./${addon}`,
    publishConfig,
    engines,
    os: [os],
    cpu: [cpu],
    ...(libc && { libc: [libc] }),
    // A program in an archive can't be run.
    preferUnplugged: true,
  });
  return folder;
}

function writeManifest(folder, content) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`);
}
