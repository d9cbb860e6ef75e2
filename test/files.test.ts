// Does a file that was replaced survive a power cut? It does when it and its folder were brought to the disk.

import { readFileSync, readdirSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { replaceFile } from '../src/files.js';
import { temporaryFolder } from './support/files.js';

test.serial('a file that is replaced goes to the disk, then its folder', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'state.json');
  const handle = await open(folder);
  const shared = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const own = shared.sync;
  t.teardown(() => void (shared.sync = own));
  const synced: string[] = [];
  shared.sync = async function (this: FileHandle) {
    synced.push((await this.stat()).isDirectory() ? `a folder of ${readdirSync(folder).join()}` : 'a file');
    await own.call(this);
  };
  await replaceFile(file, 'first');
  t.deepEqual(synced, ['a file', 'a folder of state.json']);

  const folderFails = (code: string) =>
    async function (this: FileHandle) {
      if ((await this.stat()).isDirectory()) throw Object.assign(new Error(code), { code });
    };
  // As file systems say that know no such thing.
  shared.sync = folderFails('EINVAL');
  await replaceFile(file, 'second');
  t.is(readFileSync(file, 'utf8'), 'second');
  shared.sync = folderFails('EIO');
  await t.throwsAsync(replaceFile(file, 'third'), { code: 'EIO' });
});
