/** `mesh token` and `mesh revoke`: who gets into a mesh that runs, and who no longer. */

import type { Command } from 'commander';
import * as formats from '../mesh/formats.js';
import { askRevoke, askToken, findSocket } from '../mesh/admin/client.js';
import { ExitCode, type World } from './io.js';
import { outputOption, socketOption } from './options.js';
import { type Format, UsageError, plain } from './output.js';

interface AskedToken {
  readonly uses: string;
  readonly ttl: string;
  readonly socket?: string;
  readonly output: Format;
}

export function addToken(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('token')
    .description('a token by which sidecars of a service get in')
    .argument('<service>', 'a service of the mesh file, or a SPIFFE id')
    .option('--uses <number>', 'how many certificates it is good for', '3')
    .option('--ttl <duration>', 'how long it is good', '10m')
    .addOption(socketOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
A sidecar that asks again since an answer was lost uses it again.

Examples:
  mesh token basket > token
  mesh token basket --uses 100 --ttl 24h`,
    )
    .action(async (service: string, { uses, ttl, socket, output }: AskedToken) => {
      const ttlMs = formats.lifetimeMs(ttl);
      if (!/^[1-9]\d*$/.test(uses))
        throw new UsageError([`--uses: expected a number from 1, received ${uses}`]);
      if (ttlMs === undefined || ttlMs < 1)
        throw new UsageError([`--ttl: expected ${formats.lifetime.expected}, received ${ttl}`]);
      const token = await askToken(socket || findSocket(process.cwd()), {
        service,
        uses: Number(uses),
        ttlMs,
      });
      world.stdout.write(output === 'json' ? `${JSON.stringify({ token })}\n` : `${plain(token)}\n`);
      end(ExitCode.ok);
    });
}

interface AskedRevoke {
  readonly undo: boolean;
  readonly socket?: string;
  readonly output: Format;
}

export function addRevoke(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('revoke')
    .description('believe a workload or a certificate no more')
    .argument('<whom>', 'a service of the mesh file, a SPIFFE id, or the serial number of a certificate')
    .option('--undo', 'believe it again', false)
    .addOption(socketOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
What is open to it is closed at once, on every machine. mesh config and the audit lines of mesh control tell serial numbers.

Examples:
  mesh revoke basket
  mesh revoke spiffe://mesh.local/ns/default/sa/basket
  mesh revoke 4f1c09a2b7 --undo`,
    )
    .action(async (whom: string, { undo, socket, output }: AskedRevoke) => {
      const { revoked, changed } = await askRevoke(socket || findSocket(process.cwd()), { whom, undo });
      const done = undo ? (changed ? 'believed again' : 'was not revoked') : 'revoked';
      world.stdout.write(
        output === 'json' ? `${JSON.stringify({ revoked, changed })}\n` : `${plain(revoked)}: ${done}\n`,
      );
      end(ExitCode.ok);
    });
}
