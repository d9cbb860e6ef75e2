// Is the image one program and nothing else, and does that do its work on a read-only root, as nobody in particular, in
// 32 MB and a tenth of a core?

import { chmodSync, copyFileSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { example } from '../docs/support.js';
import { httpOrigin, request } from '../support/http.js';
import { must } from '../support/processes.js';
import { until, within } from '../support/wait.js';
import { Mesh, MeshSidecar, freePort, idOf } from '../mesh/support.js';
import { type Container, type Image, reasonNotTo, runImage, unpack } from './container.js';

const archive = process.env['TEST_IMAGE'] ?? '';
const reason = reasonNotTo();
const testInLimits = reason === undefined ? test.serial : test.skip;
if (reason !== undefined) process.stdout.write(`# the image is not run: ${reason}\n`);
const testOfImage = process.platform === 'linux' ? test.serial : test.skip;

testOfImage(
  'the image holds one program, static and without a shell, and is run by a user without rights',
  async (t) => {
    const image = await unpack(t, archive);
    t.regex(image.list, /^-rwxr-xr-x 0\/0 +\d+ 1970-01-01 \S+ mesh-sidecar\n$/);
    t.deepEqual(readdirSync(image.root), ['mesh-sidecar']);
    t.like(image.config, { User: '2102:2102', Entrypoint: ['/mesh-sidecar'] });
    t.deepEqual(Object.keys(image.config.ExposedPorts), ['4143/tcp', '4140/tcp', '4191/tcp']);
    const program = readFileSync(join(image.root, 'mesh-sidecar'));
    // A program with an interpreter has its path in a header that only dynamic programs have.
    t.false(program.includes('/ld-linux'));
  },
);

testOfImage('the same sources give the same image, to the byte', async (t) => {
  const before = readFileSync(archive);
  const env = { ...process.env, BUILD_PROFILE: 'ci' };
  const said = await must(process.execPath, ['scripts/image.mjs'], { env });
  t.regex(
    said,
    /^localhost\/mesh-sidecar:\S+ \(linux\/\w+\) in \S+\ndigest sha256:[0-9a-f]{64}\ncompressed \d\.\d\d MB of at most 8 MB\n$/,
  );
  t.true(readFileSync(archive).equals(before));
});

/** A sidecar of a mesh, in a container. */
async function contained(
  t: Parameters<typeof runImage>[0],
  { mesh, image }: { mesh: Mesh; image: Image },
  service: string,
  more: readonly string[] = [],
): Promise<{ sidecar: MeshSidecar; container: Container }> {
  const token = join(mesh.folder, `${service}.token`);
  copyFileSync(mesh.token(service), token);
  // As an engine mounts a secret: for the image's user to read.
  for (const file of [token, join(mesh.folder, 'roots.pem')]) chmodSync(file, 0o444);
  chmodSync(mesh.folder, 0o755);
  const [inbound, outbound, admin] = [await freePort(), await freePort(), await freePort()];
  const flags = {
    '--control': mesh.control.addresses.join(','),
    '--trust-anchors': '/run/roots.pem',
    '--token-file': `/run/${service}.token`,
    '--identity': idOf(service),
    '--name': service,
    '--inbound': `127.0.0.1:${inbound}`,
    '--outbound': `127.0.0.1:${outbound}`,
    '--admin': `127.0.0.1:${admin}`,
    '--lame-duck': '0s',
  };
  const container = runImage(t, image, mesh.folder, [...Object.entries(flags).flat(), ...more]);
  await container.process.said(/^mesh-sidecar: ready$/m);
  return { sidecar: new MeshSidecar(container.process, inbound, outbound, admin), container };
}

testInLimits('two of it serve a mesh within 32 MB and a tenth of a core each, and drain', async (t) => {
  const image = await unpack(t, archive);
  const mesh = await Mesh.start(t);
  let answer: (() => void) | undefined;
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    const end = (): void => void outgoing.end(`${incoming.headers['x-mesh-peer']}`);
    if (incoming.url === '/slow') answer = end;
    else end();
  });
  const world = { mesh, image };
  const basket = await contained(t, world, 'basket', ['--ports', `3000=${origin.address}`]);
  mesh.serve('basket', [basket.sidecar.address]);
  const web = await contained(t, world, 'web');
  const ask = (path: string) =>
    request(web.sidecar.outbound, { path: `http://basket${path}`, headers: { host: 'basket' } });

  const answers = await Promise.all(Array.from({ length: 200 }, () => ask('/')));
  t.deepEqual([...new Set(answers.map(({ status, text }) => `${status} ${text}`))], [`200 ${idOf('web')}`]);
  await until('the edge', () =>
    mesh.control
      .edges()
      .find(({ direction, mtls, requests }) => direction === 'outbound' && mtls && requests === 200),
  );
  for (const { container } of [basket, web]) {
    const status = readFileSync(`/proc/${container.process.pid}/status`, 'utf8');
    t.regex(status, /^Uid:\t2102\t2102\t2102\t2102$/m);
    t.regex(status, /^Gid:\t2102\t2102\t2102\t2102$/m);
    t.regex(status, /^CapEff:\t0+$/m);
    const root = `/proc/${container.process.pid}/root`;
    t.deepEqual(readdirSync(root).toSorted(), ['mesh-sidecar', 'proc', 'run']);
    t.throws(() => statSync(join(root, 'bin/sh')));
    t.regex(readFileSync(`/proc/${container.process.pid}/mounts`, 'utf8'), /^tmpfs \/ tmpfs ro,/m);
  }

  const slow = ask('/slow');
  await until('a request in flight', () => answer);
  for (const { container } of [web, basket]) container.process.signal('SIGTERM');
  for (const { container } of [web, basket]) await container.process.said(/draining/);
  answer?.();
  t.is((await slow).status, 200);
  for (const { container } of [web, basket]) {
    t.deepEqual(await within('the end', container.process.exit), { code: 0, signal: null });
    t.is(container.kills(), 0);
    t.is(container.memory('failcnt'), 0);
    t.log(
      `at most ${(container.memory('max_usage_in_bytes') / 1e6).toFixed(1)} MB with the kernel's share, throttled ${container.throttled()} times`,
    );
  }
});

testOfImage('the manual names what there is', (t) => {
  const { scripts, version } = JSON.parse(readFileSync('package.json', 'utf8')) as {
    scripts: Record<string, string>;
    version: string;
  };
  t.is(example('docs/image.md', 'make'), 'npm run image\n');
  t.is(scripts['image'], 'node scripts/image.mjs');
  t.true(example('docs/image.md', 'Containerfile').includes(`localhost/mesh-sidecar:${version} `));
});

testInLimits('it runs a command beside itself, as other images do that copy it', async (t) => {
  const image = await unpack(t, archive);
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t);
  const flags = ['--listen', `127.0.0.1:${await freePort()}`, '--to', origin.address, '--admin', 'off'];
  const command = ['--', '/mesh-sidecar', '--version'];
  const { process } = runImage(t, image, mesh.folder, [...flags, '--lame-duck', '0s', ...command]);
  t.deepEqual(await within('the end', process.exit), { code: 0, signal: null });
  t.regex(process.stdout().toString(), /^mesh-sidecar \d/);
  t.regex(process.stderr(), /the command ended with 0: draining/);
});
