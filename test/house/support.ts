// What the house tests share: the tree, its files, the scripts as modules and as programs.

import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The top of the repository: ava starts every test there. */
export const root = process.cwd();

const SKIPPED = new Set(['.git', '.build', 'dist', 'node_modules', 'target', 'pkg']);

/** Every file below `folder` that belongs to the repository, relative to its top. */
export function files(folder = root): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !SKIPPED.has(entry.name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return files(path);
      return entry.isFile() ? [relative(root, path)] : [];
    });
}

/** A module of `scripts/`, which is plain JavaScript, seen with the types `T` that a test expects of it. */
export async function script<T>(path: string): Promise<T> {
  return (await import(pathToFileURL(resolve(root, 'scripts', path)).href)) as T;
}

/** How a program ended and what it said. */
export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs Node with `args`; a failing exit code is an answer, not an error. */
export function node(args: string[], env: NodeJS.ProcessEnv = process.env, cwd = root): Promise<Ended> {
  return program(process.execPath, args, env, cwd);
}

/** Runs any program likewise. */
export function program(name: string, args: string[], env = process.env, cwd = root): Promise<Ended> {
  const options = { env, cwd, maxBuffer: 256 * 1024 * 1024 };
  return new Promise((done, failed) => {
    execFile(name, args, options, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') failed(error);
      else done({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}
