// `mesh up` as a process, with a control plane that only tells what it is told, on standard output.

import { runCommand } from '../../../src/cli/program.js';
import type { ControlPlane, MeshBatch } from '../../../src/mesh/control-plane.js';

const tell = (event: string, details: object): void =>
  void process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);

const control: ControlPlane = {
  addresses: ['127.0.0.1:4144'],
  plaintextXds: [],
  apply: (batch: MeshBatch) => tell('applied', { batch }),
  issueToken: (identity) => `token of ${identity}`,
  bundle: () => 'roots',
  revoke: () => {},
  allow: () => false,
  revoked: () => [],
  knowsRevoked: () => {},
  elsewhere: () => {},
  rotateIssuer: () => {},
  rotateRoot: () => {},
  sidecars: () => [],
  edges: () => [],
  close: () => {
    tell('control closed', {});
    return Promise.resolve(undefined);
  },
};

process.exitCode = await runCommand(['up', ...process.argv.slice(2)], {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signals: process,
  serves: () => {},
  loadCore: () => import('../../../src/index.js'),
  loadControlPlane: () => Promise.resolve(() => Promise.resolve(control)),
});
