// How does a test run an image where there is no engine? As one would: its files alone as a read-only root, as the user
// it names, with a few files mounted from outside, within limits of memory and processor time.
//
// The limits are control groups of version 1. Everything needs root; `reasonNotTo` says what is missing.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { hasGroups, newGroup } from '../support/groups.js';
import { type Running, must, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';

type Test = Pick<ExecutionContext, 'teardown'>;

const MEMORY_BYTES = 32 << 20;
/** A tenth of one core, in slices of 100 ms. */
const [PERIOD_US, QUOTA_US] = [100_000, 10_000];

/** Why an image can't be run on this machine, if it can't. */
export function reasonNotTo(): string | undefined {
  if (process.platform !== 'linux') return 'only Linux has control groups';
  if (process.getuid?.() !== 0) return 'only root can mount and limit';
  if (!hasGroups('memory') || !hasGroups('cpu'))
    return 'the control groups of version 1 for memory and processor time can not be written';
  return undefined;
}

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

/** An image that was unpacked. */
export interface Image {
  /** Its files. */
  readonly root: string;
  readonly config: {
    readonly User: string;
    readonly Entrypoint: readonly string[];
    readonly ExposedPorts: Readonly<Record<string, unknown>>;
  };
  /** The paths in its layer, with their modes, as `tar` lists them. */
  readonly list: string;
}

/** Unpacks an archive as an engine would: by digest. */
export async function unpack(t: Test, archive: string): Promise<Image> {
  const folder = mkdtempSync(join(tmpdir(), 'mesh-image-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const [layout, root] = [join(folder, 'layout'), join(folder, 'root')];
  mkdirSync(layout);
  mkdirSync(root);
  await must('tar', ['-xf', archive, '-C', layout]);
  const file = ({ digest }: Descriptor): string => join(layout, 'blobs', ...digest.split(':'));
  const read = <T>(path: string): T => JSON.parse(readFileSync(path, 'utf8')) as T;
  const { manifests } = read<{ manifests: [Descriptor] }>(join(layout, 'index.json'));
  const manifest = read<{ config: Descriptor; layers: [Descriptor] }>(file(manifests[0]));
  for (const described of [manifests[0], manifest.config, manifest.layers[0]]) {
    const sum = await must('sha256sum', [file(described)]);
    if (!described.digest.endsWith(sum.slice(0, 64))) throw new Error(`${described.digest} is ${sum}`);
  }
  const layer = file(manifest.layers[0]);
  await must('tar', ['-xzf', layer, '-C', root]);
  const list = await must('tar', ['--numeric-owner', '-tvzf', layer]);
  const { config } = read<{ config: Image['config'] }>(file(manifest.config));
  return { root, config, list };
}

/** A running container. */
export class Container {
  constructor(
    readonly process: Running,
    readonly groups: readonly string[],
  ) {}

  /** A number that the kernel keeps about its memory. */
  memory(name: string): number {
    return Number(readFileSync(join(this.groups[0] ?? '', `memory.${name}`), 'utf8'));
  }

  /** How often something in it was killed for want of memory. */
  kills(): number {
    const control = readFileSync(join(this.groups[0] ?? '', 'memory.oom_control'), 'utf8');
    return Number(/^oom_kill (\d+)$/m.exec(control)?.[1]);
  }

  /** How often it had to wait for its share of the processor. */
  throttled(): number {
    const stat = readFileSync(join(this.groups[1] ?? '', 'cpu.stat'), 'utf8');
    return Number(/^nr_throttled (\d+)$/m.exec(stat)?.[1]);
  }
}

/** The mounts live in a namespace of their own: nothing is left of them when the process has gone. */
const RUN = `set -e
root=$1 mounted=$2 user=$3 groups=$4; shift 4
mount -t tmpfs tmpfs "$root.run"
cp -a "$root/." "$root.run/"
mkdir "$root.run/proc" "$root.run/run"
mount -t proc proc "$root.run/proc"
mount --bind "$mounted" "$root.run/run"
mount -o remount,bind,ro "$root.run/run"
mount -o remount,bind,ro "$root.run"
for group in $groups; do echo $$ > "$group/cgroup.procs"; done
exec chroot --groups= --userspec="$user" "$root.run" "$@"`;

/** Runs an image with arguments. `mounted` is a folder that it finds, read-only, at `/run`. */
export function runImage(t: Test, image: Image, mounted: string, args: readonly string[]): Container {
  const mine = [
    newGroup(t, 'memory', { 'memory.limit_in_bytes': MEMORY_BYTES }),
    newGroup(t, 'cpu', { 'cpu.cfs_period_us': PERIOD_US, 'cpu.cfs_quota_us': QUOTA_US }),
  ];
  mkdirSync(`${image.root}.run`, { recursive: true });
  const { User, Entrypoint } = image.config;
  const wrapped = ['--mount', '--propagation', 'private', 'sh', '-c', RUN, basename(image.root)];
  const process = start(
    t,
    'unshare',
    [...wrapped, image.root, mounted, User, mine.join(' '), ...Entrypoint, ...args],
    { env: cleanEnvironment() },
  );
  return new Container(process, mine);
}
