// Is every way to save a file noticed, told once, and nothing left behind?

import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CertificateError, ConfigError, ListenError } from '../../src/errors.js';
import { loadConfig, watchConfig } from '../../src/index.js';
import type { ConfigChange, ConfigWatcher, WatchOptions } from '../../src/config/index.js';
import { pipe } from '../support/files.js';
import { temporaryFolder } from '../support/files.js';

/** So long that only events can have told; tests of the slow look set their own. */
const NEVER_MS = 2 ** 30;

function watching(t: ExecutionContext, file: string, options: WatchOptions = {}): ConfigWatcher {
  const watcher = watchConfig(file, { debounceMs: 10, pollMs: NEVER_MS, ...options });
  t.teardown(watcher.stop);
  return watcher;
}

async function next(watcher: ConfigWatcher): Promise<ConfigChange> {
  const { value, done } = await watcher.next();
  if (done || !value) throw new Error('the watch has ended');
  return value;
}

/** The threads of the next good configuration: a look may fall between two steps of a writer. */
async function threads(watcher: ConfigWatcher): Promise<number | undefined> {
  let { config } = await next(watcher);
  while (!config) ({ config } = await next(watcher));
  return config.config.threads;
}

/** The next issue of a kind. */
async function issue(watcher: ConfigWatcher, code: string): Promise<string | undefined> {
  let { error } = await next(watcher);
  while (error?.issues[0]?.code !== code) ({ error } = await next(watcher));
  return error.issues[0]?.field;
}

/** A folder with a file of one thread. */
function fileOfOne(t: ExecutionContext): string {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  writeFileSync(file, 'threads: 1\n');
  return file;
}

test('the first look tells what is there', async (t) => {
  t.is(await threads(watching(t, fileOfOne(t))), 1);
});

test('what is known already is not told again', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file, { since: await loadConfig(file) });
  const change = threads(watcher);
  writeFileSync(file, 'threads: 2\n');
  t.is(await change, 2);
});

test('an edit in place is told', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file);
  t.is(await threads(watcher), 1);
  writeFileSync(file, 'threads: 2\n');
  t.is(await threads(watcher), 2);
  writeFileSync(file, 'threads: 3\n');
  t.is(await threads(watcher), 3);
});

test('a file written beside and renamed is told, again and again', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file);
  t.is(await threads(watcher), 1);
  for (const number of [2, 3, 4]) {
    writeFileSync(`${file}.new`, `threads: ${number}\n`);
    renameSync(`${file}.new`, file);
    t.is(await threads(watcher), number);
  }
});

test('a link that is swapped to another folder is told, and edits behind it', async (t) => {
  // As Kubernetes mounts a ConfigMap: mesh.yaml -> ..data/mesh.yaml, ..data -> a folder that is replaced.
  const folder = temporaryFolder(t);
  const publish = (name: string, number: number): void => {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'mesh.yaml'), `threads: ${number}\n`);
    symlinkSync(name, join(folder, '..data.new'));
    renameSync(join(folder, '..data.new'), join(folder, '..data'));
  };
  publish('..one', 1);
  const file = join(folder, 'mesh.yaml');
  symlinkSync(join('..data', 'mesh.yaml'), file);
  const watcher = watching(t, file);
  t.is(await threads(watcher), 1);
  publish('..two', 2);
  t.is(await threads(watcher), 2);
  writeFileSync(join(folder, '..two', 'mesh.yaml'), 'threads: 3\n');
  t.is(await threads(watcher), 3);
});

test('a bad content is told as an error, once, and the next good one after it', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file);
  t.is(await threads(watcher), 1);
  writeFileSync(file, 'threads: two\n');
  t.is(await issue(watcher, 'invalid'), 'threads');
  // The same content in a new file is no news.
  writeFileSync(`${file}.new`, 'threads: two\n');
  renameSync(`${file}.new`, file);
  writeFileSync(file, 'threads: 2\n');
  t.is(await threads(watcher), 2);
});

test('a file that goes away is an error, and told when it is back', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file);
  t.is(await threads(watcher), 1);
  unlinkSync(file);
  t.is(await issue(watcher, 'unreadable'), '');
  writeFileSync(file, 'threads: 1\n');
  t.is(await threads(watcher), 1);
});

test('a file that becomes a pipe is an error, keeps nobody waiting, and is told when it is a file again', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file);
  t.is(await threads(watcher), 1);
  renameSync(pipe(t), file);
  t.is(await issue(watcher, 'unreadable'), '');
  writeFileSync(`${file}.new`, 'threads: 2\n');
  renameSync(`${file}.new`, file);
  t.is(await threads(watcher), 2);
});

test('a pipe that was read is not watched', async (t) => {
  const file = pipe(t);
  const loading = loadConfig(file);
  await writeFile(file, 'threads: 1\n');
  const watcher = watching(t, file, { since: await loading });
  t.true((await watcher.next()).done);
  await watcher.settled();
});

test('the slow look finds what no event told', async (t) => {
  const file = fileOfOne(t);
  // A burst that never ends: events alone would tell nothing.
  const watcher = watching(t, file, { debounceMs: NEVER_MS, pollMs: 20 });
  t.is(await threads(watcher), 1);
  writeFileSync(file, 'threads: 2\n');
  t.is(await threads(watcher), 2);
});

test('a folder that goes away and comes back is watched again', async (t) => {
  const folder = join(temporaryFolder(t), 'etc');
  mkdirSync(folder);
  const file = join(folder, 'mesh.yaml');
  writeFileSync(file, 'threads: 1\n');
  const watcher = watching(t, file, { pollMs: 20 });
  t.is(await threads(watcher), 1);
  rmSync(folder, { recursive: true });
  t.is(await issue(watcher, 'unreadable'), '');
  mkdirSync(folder);
  writeFileSync(file, 'threads: 2\n');
  t.is(await threads(watcher), 2);
});

test('a file that is empty for a moment is looked at twice', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file);
  t.is(await threads(watcher), 1);
  writeFileSync(file, '');
  t.is(await issue(watcher, 'syntax'), '');
});

test('check() looks at once', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file, { debounceMs: NEVER_MS });
  t.is(await threads(watcher), 1);
  writeFileSync(file, 'threads: 2\n');
  watcher.check();
  t.is(await threads(watcher), 2);
});

test('check() tells what is there, told before or not', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file, { since: await loadConfig(file) });
  watcher.check();
  t.is(await threads(watcher), 1);
  writeFileSync(file, 'threads: two\n');
  t.is(await issue(watcher, 'invalid'), 'threads');
  watcher.check();
  t.is(await issue(watcher, 'invalid'), 'threads');
});

test('what is refused for a reason that may go is told again, until it is something else', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file, { debounceMs: NEVER_MS, pollMs: 20 });
  const refused = async (error: Error): Promise<[number | undefined, boolean]> => {
    const { config } = await next(watcher);
    if (!config) throw new Error('that is no configuration');
    return [config.config.threads, watcher.refused(config, error)];
  };
  const missing = new CertificateError([{ code: 'unreadable', field: 'tls.key', message: 'is not there' }]);
  t.deepEqual(await refused(missing), [1, true]);
  t.deepEqual(await refused(missing), [1, false]);
  const taken = new ListenError('EADDRINUSE', 'web', ':80');
  t.deepEqual(await refused(taken), [1, true]);
  t.deepEqual(await refused(taken), [1, false]);
  // Somebody asks.
  watcher.check();
  t.deepEqual(await refused(taken), [1, true]);
  // What takes a change of the file waits for it.
  t.deepEqual(await refused(new ConfigError([])), [1, true]);
  writeFileSync(file, 'threads: 2\n');
  t.deepEqual(await refused(taken), [2, true]);
  writeFileSync(file, 'threads: 3\n');
  t.is(await threads(watcher), 3);
  // Another one was live meanwhile.
  writeFileSync(file, 'threads: 2\n');
  t.deepEqual(await refused(taken), [2, true]);
});

test('a slow reader gets the newest, not every step', async (t) => {
  const file = fileOfOne(t);
  const watcher = watching(t, file, { debounceMs: NEVER_MS });
  const step = async (number: number): Promise<void> => {
    writeFileSync(file, `threads: ${number}\n`);
    watcher.check();
    await watcher.settled();
  };
  await watcher.settled();
  await step(2);
  await step(3);
  t.is(await threads(watcher), 3);
});

test('stop(), break and an aborted signal end whoever waits', async (t) => {
  const file = fileOfOne(t);
  const since = await loadConfig(file);

  const stopped = watching(t, file, { since });
  const waiting = [stopped.next(), stopped.next()];
  stopped.stop();
  for (const { done } of await Promise.all(waiting)) t.true(done);
  t.true((await stopped.next()).done);

  const broken = watching(t, file);
  for await (const { config } of broken) {
    t.is(config?.config.threads, 1);
    break;
  }
  t.true((await broken.next()).done);

  const controller = new AbortController();
  const aborted = watching(t, file, { since, signal: controller.signal });
  const last = aborted.next();
  controller.abort();
  t.true((await last).done);
  t.true((await watching(t, file, { signal: AbortSignal.abort() }).next()).done);
});

test('stop() leaves nothing that keeps the process alive', (t) => {
  const file = fileOfOne(t);
  const script = `
    const { watchConfig } = await import(${JSON.stringify(new URL('../../src/index.js', import.meta.url).href)});
    const watcher = watchConfig(${JSON.stringify(file)});
    const { value } = await watcher.next();
    console.log(value.config.config.threads);
    watcher.stop();
  `;
  // Ends by itself, or is killed at the limit and fails.
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  t.is(status, 0);
  t.is(stdout, '1\n');
});

test('after its folder was replaced, edits in the new one are told by events again', async (t) => {
  const parent = temporaryFolder(t);
  const folder = join(parent, 'conf');
  const file = join(folder, 'mesh.yaml');
  mkdirSync(folder);
  writeFileSync(file, 'threads: 1\n');
  const watcher = watching(t, file);
  t.is(await threads(watcher), 1);
  const replacement = join(parent, 'next');
  mkdirSync(replacement);
  writeFileSync(join(replacement, 'mesh.yaml'), 'threads: 2\n');
  renameSync(folder, join(parent, 'former'));
  renameSync(replacement, folder);
  // What the slow look would do.
  watcher.check();
  t.is(await threads(watcher), 2);
  await watcher.settled();
  const change = threads(watcher);
  writeFileSync(file, 'threads: 3\n');
  t.is(await change, 3);
});
