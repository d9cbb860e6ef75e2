/** `mesh attack`: does a proxy of one's own hold against hostile clients? */

import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Report } from '../attack/report.js';
import { durationUpTo } from '../config/formats.js';
import { ExitCode, type World } from './io.js';
import { outputOption } from './options.js';
import { type Format, UsageError, coloursOf, json, plain, table } from './output.js';

interface Asked {
  readonly only?: string;
  readonly slow: boolean;
  readonly network: boolean;
  readonly insecure: boolean;
  readonly ca?: string;
  readonly timeout: string;
  readonly output: Format;
}

export function addAttack(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('attack')
    .description('check a proxy of yours against a list of attacks, by what a client sees')
    .argument('<url>', 'where it listens, http:// or https://, with a path that it serves')
    .option('--only <rows>', 'these rows of the list, such as 12,13,14')
    .option('--slow', 'slow clients too (row 10), which takes 20 s', false)
    .option('--network', 'it may be at a private address, which is yours', false)
    .option('--ca <file>', 'the roots of its certificate, PEM')
    .option('--insecure', 'believe any certificate', false)
    .option('--timeout <duration>', 'how long all of it may take, at most 10m', '2m')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
It only attacks what is yours: an address of this machine, and with --network one of a private network. It sends 4 MiB
at most, on 4 connections at once, and no flood is more than twice what a good proxy bears: it is a check, no load.

Exits with 0 when all held that a client can see, 1 when some did not, 64 for wrong usage.

Examples:
  mesh attack http://127.0.0.1:8080/
  mesh attack https://localhost:8443/ --ca root.crt --slow
  mesh attack http://127.0.0.1:8080/ --only 12,13,14 -o json`,
    )
    .action(async (given: string, asked: Asked) => {
      const { attack, ROWS, LONGEST_TIMEOUT_MS, targetUrl } = await import('../attack/index.js');
      const { only, timeout, output, ca, slow, network, insecure } = asked;
      const url = targetUrl(given);
      const problems: string[] = [];
      const timeoutMs = durationUpTo(timeout, LONGEST_TIMEOUT_MS) ?? 0;
      if (timeoutMs < 1)
        problems.push(`--timeout: expected a duration such as 30s or 2m, at most 10m, received ${timeout}`);
      const rows = only?.split(',').map((each) => (/^\d+$/.test(each.trim()) ? Number(each) : 0));
      if (rows?.some((row) => row < 1 || row > ROWS.length))
        problems.push(`--only: expected rows from 1 to ${ROWS.length}, such as 12,13,14, received ${only}`);
      const roots = ca === undefined ? undefined : await readFile(ca, 'utf8').catch(() => '');
      if (roots !== undefined && !roots.includes('-----BEGIN CERTIFICATE-----'))
        problems.push(`--ca: expected a file with certificates in PEM, received ${ca}`);
      if (problems.length > 0) throw new UsageError(problems.map(plain));
      const report = await attack(url, {
        ...(rows && { only: rows }),
        slow,
        network,
        insecure,
        ca: roots,
        timeoutMs,
      });
      world.stdout.write(output === 'json' ? json(report) : render(report, world));
      // Of what nothing was seen nothing is known.
      end(report.complete && report.failed === 0 && report.held > 0 ? ExitCode.ok : ExitCode.failure);
    });
}

function render({ rows, held, failed, skipped, url }: Report, world: World): string {
  const lines = table(
    ['row', 'attack', 'must', 'happened', 'verdict'],
    rows.map(({ row, attack, must, happened, verdict, why }) => [
      row,
      attack,
      must,
      happened || '-',
      why === undefined ? verdict : `${verdict}: ${why}`,
    ]),
    world.stdout,
    world.env,
  );
  const { green, red, yellow } = coloursOf(world.stdout, world.env);
  const colour = failed > 0 ? red : held > 0 ? green : yellow;
  return `${lines}${plain(url)}: ${colour(`${held} held, ${failed} failed, ${skipped} skipped`)}\n`;
}
