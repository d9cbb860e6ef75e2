// How does a test become a new user? An empty folder in which the packed packages are installed; no Rust, no network, and
// nothing of this tree in reach.

import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { example } from '../docs/support.js';
import { type Ended, program, root } from '../house/support.js';
import { cleanEnvironment } from '../support/sidecar.js';

/** npm packs and unpacks the whole product, not stripped. */
export const INSTALL_MS = 180_000;

const PACKED = process.env['TEST_PACKAGES'] ?? '';
/** The tarballs that `npm run pack` made: the package, and the one for this platform. */
export const [mainTarball, platformTarball] = tarballs();

function tarballs(): [string, string] {
  const { name, version } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, string>;
  const main = `${name?.slice(1).replace('/', '-')}-${version}.tgz`;
  const platform = readdirSync(PACKED).find((each) => each.endsWith('.tgz') && each !== main);
  if (platform === undefined) throw new Error(`there are no two packages in ${PACKED}`);
  return [join(PACKED, main), join(PACKED, platform)];
}

/** The environment of somebody who has Node and what every system has: no settings of ours or npm's, and no cargo. */
export function userEnvironment(): NodeJS.ProcessEnv {
  const inherited = Object.entries(cleanEnvironment()).filter(([name]) => !/^(npm_|cargo|rust)/i.test(name));
  const path = [dirname(process.execPath), '/usr/local/bin', '/usr/bin', '/bin'].join(delimiter);
  return { ...Object.fromEntries(inherited), PATH: path };
}

/** Runs npm as that user. Nothing may have to run for something to be installed. */
export async function npm(args: string[], cwd: string): Promise<string> {
  const how = ['--ignore-scripts', '--offline', '--no-audit', '--no-fund', '--no-update-notifier'];
  const { code, stdout, stderr } = await program('npm', [...args, ...how], userEnvironment(), cwd);
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

/** A command line in a project, as that user types it; it may fail. */
export function type(line: string, cwd: string): Promise<Ended> {
  const [command = '', ...args] = line.split(' ');
  return program(command, args, userEnvironment(), cwd);
}

/** The command by which the README says to install it. */
const [, ...INSTALL] = example('README.md', 'install').trim().split(' ');

/** A folder in which empty projects are made, to be removed after the tests. */
export class Projects {
  readonly folder = mkdtempSync(join(tmpdir(), 'package-'));
  #dependencies: Promise<string[]> | undefined;

  /**
   * A project with these tarballs. What they depend on comes from this tree, as tarballs too: then npm asks no registry,
   * and installs copies.
   */
  async make(name: string, kind: 'module' | 'commonjs', packages: readonly string[]): Promise<string> {
    this.#dependencies ??= this.#pack();
    const project = join(this.folder, name);
    mkdirSync(project);
    writeFileSync(join(project, 'package.json'), JSON.stringify({ type: kind }));
    const whole = [...packages, ...(await this.#dependencies)];
    await npm(
      INSTALL.flatMap((word) => (word === '@mesh/proxy' ? whole : word)),
      project,
    );
    return project;
  }

  async #pack(): Promise<string[]> {
    const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: object };
    const names = Object.keys(dependencies);
    const folders = names.map((name) => join(root, 'node_modules', name));
    const output = await npm(['pack', '--json', '--pack-destination', this.folder, ...folders], this.folder);
    const packed = JSON.parse(output) as { filename: string }[];
    return packed.map(({ filename }) => join(this.folder, filename));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
