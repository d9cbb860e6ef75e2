// How are files written as an OCI image (image-spec 1.1), in one archive that every engine loads?
//
//     archive (tar) ── oci-layout ── index.json ── manifest ──┬── config
//                                                             └── layer (tar, gzip)
//
// The same files give the same bytes: no times, no names of users, entries in the order given.

import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';

const MEDIA = 'application/vnd.oci.image';
const BLOCK = 512;

/** One file in a tar archive (POSIX ustar), owned by root, of 1970. */
function entry({ path, mode, content }) {
  if (Buffer.byteLength(path) > 100) throw new Error(`the path is too long for a tar archive: ${path}`);
  const header = Buffer.alloc(BLOCK);
  const octal = (value, at, length) => header.write(value.toString(8).padStart(length - 1, '0'), at);
  header.write(path, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(content.length, 124, 12);
  octal(0, 136, 12);
  header.write(' '.repeat(8), 148);
  header.write('0', 156);
  header.write('ustar\0', 257);
  header.write('00', 263);
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return [header, content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)];
}

/** A tar archive of files: `path`, `mode`, `content`. */
export function tar(files) {
  return Buffer.concat([...files.flatMap(entry), Buffer.alloc(2 * BLOCK)]);
}

function blob(content) {
  const hex = createHash('sha256').update(content).digest('hex');
  return { digest: `sha256:${hex}`, size: content.length, path: `blobs/sha256/${hex}`, mode: 0o644, content };
}

const json = (value) => Buffer.from(JSON.stringify(value));

/**
 * An image of one layer.
 *
 * `files` are those of `tar`, `config` is the image's configuration, `name` is what an engine calls it once loaded
 * (`localhost/thing:1.0`), `architecture` is Go's name of it. Gives the archive, the digest of the manifest, which
 * names the image, and the compressed bytes that a registry sends for it.
 */
export function image({ files, config, name, architecture }) {
  const content = tar(files);
  const layer = blob(gzipSync(content, { level: 9 }));
  const configuration = blob(
    json({ architecture, os: 'linux', config, rootfs: { type: 'layers', diff_ids: [blob(content).digest] } }),
  );
  const described = ({ digest, size }, kind) => ({ mediaType: `${MEDIA}.${kind}`, digest, size });
  const manifest = blob(
    json({
      schemaVersion: 2,
      mediaType: `${MEDIA}.manifest.v1+json`,
      config: described(configuration, 'config.v1+json'),
      layers: [described(layer, 'layer.v1.tar+gzip')],
    }),
  );
  const annotations = { 'org.opencontainers.image.ref.name': name, 'io.containerd.image.name': name };
  const index = json({
    schemaVersion: 2,
    mediaType: `${MEDIA}.index.v1+json`,
    manifests: [{ ...described(manifest, 'manifest.v1+json'), annotations }],
  });
  const archive = tar([
    { path: 'oci-layout', mode: 0o644, content: json({ imageLayoutVersion: '1.0.0' }) },
    { path: 'index.json', mode: 0o644, content: index },
    manifest,
    configuration,
    layer,
  ]);
  return {
    archive,
    digest: manifest.digest,
    compressedBytes: layer.size + configuration.size + manifest.size,
  };
}
