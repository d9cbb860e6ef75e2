// How does a test run `mesh up`, and ask it as a person would? In a folder of its own.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { MeshConfig } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { type Running, type Said, run, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { until } from '../support/wait.js';

const MESH = join(process.cwd(), 'dist', 'cli', 'main.js');

/** Something that `mesh up -o json` told. */
export interface Line {
  event: string;
  copy?: string;
  phase?: string;
  application?: string;
  text?: string;
  lines?: number;
  resources?: number;
}

/** A mesh that runs. */
export class MeshUp {
  private constructor(
    readonly folder: string,
    readonly process: Running,
  ) {}

  /** Starts it from a mesh file, its text or its content, with other files beside it. It ends with the test. */
  static start(
    t: ExecutionContext,
    mesh: string | MeshConfig,
    { files = {}, flags = [] }: { files?: Readonly<Record<string, string>>; flags?: readonly string[] } = {},
  ): MeshUp {
    const folder = temporaryFolder(t);
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    writeFileSync(join(folder, 'mesh.yaml'), typeof mesh === 'string' ? mesh : JSON.stringify(mesh));
    const args = [MESH, 'up', '-o', 'json', '--sidecar', sidecarFile(), ...flags];
    return new MeshUp(folder, start(t, process.execPath, args, { cwd: folder, env: cleanEnvironment() }));
  }

  /** Gives it another mesh file. */
  write(mesh: MeshConfig): void {
    writeFileSync(join(this.folder, 'mesh.yaml'), JSON.stringify(mesh));
  }

  /** Makes an empty file beside it. */
  touch(name: string): void {
    writeFileSync(join(this.folder, name), '');
  }

  /** All that it has told. */
  lines(): Line[] {
    const whole = this.process.stdout().toString().split('\n').slice(0, -1);
    return whole.map((line) => JSON.parse(line) as Line);
  }

  /** The first line that is meant, once it is told. */
  line(what: string, meant: (line: Line) => boolean): Promise<Line> {
    return until(what, () => {
      const found = this.lines().find(meant);
      if (!found && this.process.ended)
        throw new Error(this.process.stderr() + this.process.stdout().toString());
      return found;
    });
  }

  allReady(): Promise<Line> {
    return this.line('all are ready', ({ event }) => event === 'ready');
  }

  /** Waits until a copy has printed a line. */
  printed(copy: string, text: string): Promise<Line> {
    return this.line(`${copy} prints ${text}`, (line) => line.copy === copy && line.text === text);
  }

  /** Runs a command of `mesh` beside it, and gives what it said. */
  mesh(...args: string[]): Promise<Said> {
    return run(process.execPath, [MESH, ...args], { cwd: this.folder, env: cleanEnvironment() });
  }

  /** What a command that succeeds says as JSON. */
  async json<T>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.mesh(...args, '-o', 'json');
    if (code !== 0) throw new Error(`mesh ${args.join(' ')}: ${stderr}${stdout.toString()}`);
    return JSON.parse(stdout.toString()) as T;
  }
}
