// Does the front keep the rules of RFC 9113 and RFC 7541, case by case? The suite is h2spec, built where there is Go.

import { existsSync } from 'node:fs';
import test from 'ava';
import { Authority } from '../support/certificates.js';
import { httpOrigin } from '../support/http.js';
import { run } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';

const H2SPEC = process.env['TEST_H2SPEC'] ?? '';
const PATIENCE_MS = 180_000;
/** How long a case waits for what it expects: all of them expect something, that comes at once. */
const CASE_SECONDS = '10';

if (existsSync(H2SPEC)) {
  for (const part of ['generic', 'http2', 'hpack']) {
    for (const transport of ['plaintext', 'TLS']) {
      test(`${part} over ${transport}`, async (t) => {
        t.timeout(PATIENCE_MS);
        const origin = await httpOrigin(t, (incoming, outgoing) => {
          incoming.resume();
          incoming.on('end', () => outgoing.end('hello'));
        });
        const tls = await (await Authority.create(t)).sign({ names: ['IP:127.0.0.1'] });
        const proxy = await startSidecar(
          t,
          web({ routes: [{ to: origin.address }], protocol: 'http2', ...(transport === 'TLS' && { tls }) }),
        );
        const flags = transport === 'TLS' ? ['--tls', '--insecure'] : [];
        const { code, stdout, stderr } = await run(
          H2SPEC,
          [part, '--host', '127.0.0.1', '--port', String(proxy.port()), '--timeout', CASE_SECONDS, ...flags],
          { patienceMs: PATIENCE_MS },
        );
        const said = stdout.toString();
        const [, passed, failed] = /(\d+) passed, \d+ skipped, (\d+) failed/.exec(said) ?? [];
        t.is(failed, '0', `${said}${stderr}`);
        t.true(Number(passed) > 0);
        t.is(code, 0);
      });
    }
  }
} else {
  test.skip('h2spec was not built: it needs Go', () => {});
}
