/**
 * Where is what was compiled for this platform: the addon, and the program `mesh-sidecar`?
 *
 * A clone has both in `dist/native`, where its build puts them. An installed package has them in a package of their own,
 * `@mesh/proxy-linux-x64-gnu` or the like: the optional dependency of which npm installs the one that fits.
 */

import { accessSync, constants, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `linux-x64-gnu`, `darwin-arm64`, ... */
export function platformName(): string {
  if (process.platform !== 'linux') return `${process.platform}-${process.arch}`;
  return `linux-${process.arch}-${hasGlibc() ? 'gnu' : 'musl'}`;
}

function hasGlibc(): boolean {
  // The types of Node 20 do not know this setting yet.
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  const before = report.excludeNetwork ?? false;
  // A report asks DNS for the name of every peer of this process otherwise, and blocks meanwhile.
  report.excludeNetwork = true;
  try {
    const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
    return header.glibcVersionRuntime !== undefined;
  } finally {
    report.excludeNetwork = before;
  }
}

/** A file that was compiled for a platform; `undefined` when it isn't here. */
export function platformFile(platform: string, name: string): string | undefined {
  return [beside('./native/'), packageFolder(platform)]
    .flatMap((folder) => (folder === undefined ? [] : [join(folder, name)]))
    .find(isReadable);
}

/** Why a platform's files are not here, and how to get them: the end of an error's message. */
export function whyMissing(platform: string): string {
  const { name, optionalDependencies = {} } = JSON.parse(readFileSync(beside('../package.json'), 'utf8')) as {
    name: string;
    optionalDependencies?: Record<string, string>;
  };
  const wanted = packageName(platform);
  const offered = Object.keys(optionalDependencies).filter((each) => each.startsWith(`${name}-`));
  if (offered.length === 0) return '`npm run build` makes it, in a clone of the repository';
  if (!offered.includes(wanted)) {
    const platforms = offered.map((each) => each.slice(name.length + 1));
    return `${name} is made for ${platforms.join(', ')}; elsewhere a clone of the repository can be built`;
  }
  return (
    `the package ${wanted} has it, and is not installed: install ${name} again, without --omit=optional; ` +
    'if that does not help, without the lock file, which may be of another platform'
  );
}

const beside = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const packageName = (platform: string): string => `@mesh/proxy-${platform}`;

function packageFolder(platform: string): string | undefined {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${packageName(platform)}/package.json`));
  } catch {
    return undefined;
  }
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
