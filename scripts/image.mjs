// npm run image [-- --name NAME:TAG]: the image of the sidecar, made without a container engine.
//
// The layer, the configuration and the manifest are written here, as the Containerfile says: it is a hundred lines,
// needs nothing to be installed, and gives the same bytes every time, which no engine promises.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureStaticSidecar } from './lib/artefacts.mjs';
import { readContainerfile } from './lib/containerfile.mjs';
import { image } from './lib/oci.mjs';
import { Failure, main, say } from './lib/run.mjs';
import { imagePath, manifest, profile, root, staticSidecarPath } from './lib/toolchain.mjs';

/** What an image may weigh compressed: a start on a new node waits for these bytes. */
const MOST_COMPRESSED_BYTES = 8_000_000;

/** The names of processors in Go's world, which is that of images. */
const architectures = { x64: 'amd64', arm64: 'arm64' };

await main(async () => {
  const { values } = parseArgs({ options: { name: { type: 'string' } } });
  const name = values.name ?? `localhost/mesh-sidecar:${manifest.version}`;
  const architecture = architectures[process.arch];
  if (process.platform !== 'linux' || !architecture) {
    throw new Failure('an image holds a Linux program for x64 or arm64: build it on such a machine');
  }
  await ensureStaticSidecar(profile);
  const archivePath = imagePath(profile);
  const context = dirname(archivePath);
  mkdirSync(context, { recursive: true });
  copyFileSync(staticSidecarPath(profile), join(context, 'mesh-sidecar'));
  const { copies, config } = readContainerfile(readFileSync(join(root, 'Containerfile'), 'utf8'));
  const files = copies.map(({ from, to }) => ({
    path: to,
    mode: 0o755,
    content: readFileSync(join(context, from)),
  }));
  const { archive, digest, compressedBytes } = image({ files, config, name, architecture });
  writeFileSync(archivePath, archive);
  say(`${name} (linux/${architecture}) in ${relative(root, archivePath)}`);
  say(`digest ${digest}`);
  say(`compressed ${(compressedBytes / 1e6).toFixed(2)} MB of at most ${MOST_COMPRESSED_BYTES / 1e6} MB`);
  if (compressedBytes > MOST_COMPRESSED_BYTES) throw new Failure('the image is too large');
});
