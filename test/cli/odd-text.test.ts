// May somebody whose words a command prints, a sidecar, write lines of their own there, or steer the terminal?

import { createServer } from 'node:http';
import { join } from 'node:path';
import test from 'ava';
import { plain } from '../../src/cli/output.js';
import type { MeshStatus } from '../../src/mesh/admin/types.js';
import { temporaryFolder } from '../support/files.js';
import { until } from '../support/wait.js';
import { FakeWorld } from './world.js';

/** A clear screen, lines, a terminal's title, a line that goes backwards, a control character of two bytes. */
const ODD = 'evil\u001B[2J\nbasket-1: ready\r\u0007\u202E\u2028\u009B2J\u007F';
const EVERYTHING = /[^\P{C}\n\t]|[\u2028\u2029]/u;

test('what is odd is shown as what it is, and nothing else is changed', (t) => {
  t.is(plain('a\nb\u001B[2J\u009B\u202E\u2028'), String.raw`a\u{a}b\u{1b}[2J\u{9b}\u{202e}\u{2028}`);
  for (const text of ['basket-1', 'Körbchen: GET /items/ä?x=1 "y" \\', '籠 👩‍💻'.replace('\u200D', '')])
    t.is(plain(text), text);
});

test('mesh stat, edges, check and config print no line or order of a sidecar', async (t) => {
  const status: MeshStatus = {
    trustDomain: 'mesh.local',
    version: '1.0.0',
    isBypassable: false,
    issuer: null,
    atMs: 2000,
    startedAtMs: 1000,
    sidecars: [
      {
        name: ODD,
        identity: `spiffe://mesh.local/${ODD}`,
        address: ODD,
        inboundAddress: ODD,
        services: [{ service: ODD, port: 80 }],
        phase: 'connected',
        version: ODD,
        pid: 1,
        instance: ODD,
        turn: 1,
        sharesName: true,
        sinceMs: 1000,
        certificateNotAfterMs: 1,
        certificateSerial: ODD,
        certificateLifeMs: null,
        telemetryAtMs: null,
        nacks: [{ resource: ODD, name: ODD, version: ODD, reason: ODD }],
        has: [{ resource: ODD, count: 1, changedAtMs: 1000 }],
      },
    ],
    missing: [{ name: ODD, identity: ODD, sinceMs: -100_000 }],
    strangers: [{ name: ODD, identity: ODD }],
    revoked: [ODD],
    services: [{ name: ODD, endpoints: 0 }],
    declared: [ODD],
    edges: (['inbound', 'outbound'] as const).map((direction) => ({
      identity: `spiffe://mesh.local/ns/default/sa/${ODD}`,
      direction,
      peer: `spiffe://mesh.local/ns/default/sa/${ODD}`,
      service: ODD,
      port: 80,
      protocol: ODD,
      mtls: false,
      requests: 1,
      failures: {},
      denied: 0,
      audited: 0,
      timesNs: [[1000, 1]],
      rate: 1,
    })),
    sources: [],
  };
  const socket = join(temporaryFolder(t), 'mesh.sock');
  const server = createServer((_, response) => void response.end(JSON.stringify(status))).listen(socket);
  t.teardown(() => server.close());
  await until('the socket', () => server.listening);
  for (const args of [
    ['stat'],
    ['stat', '--to', 'nobody'],
    ['edges'],
    ['check'],
    ['config', ODD],
    ['config', 'nobody'],
  ]) {
    for (const isTTY of [false, true]) {
      const world = new FakeWorld();
      world.isTTY = isTTY;
      world.env['NO_COLOR'] = '1';
      const { stdout, stderr } = await world.run(...args, '--socket', socket);
      const said = stdout + stderr;
      t.notRegex(said, EVERYTHING, args[0]);
      t.notRegex(said, /^basket-1: ready/m, args[0]);
      t.regex(said, /evil\\u\{1b\}\[2J\\u\{a\}basket-1/, args[0]);
    }
  }
});
