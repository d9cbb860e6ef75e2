// How is a file written that others read meanwhile?

import { open, rename } from 'node:fs/promises';

/** Writes beside the file and moves it into its place; mode 0600. */
export async function replaceFile(file: string, text: string): Promise<void> {
  const draft = `${file}.new`;
  const handle = await open(draft, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(draft, file);
}
