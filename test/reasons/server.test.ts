// What servers do, or the way there: is each reason said, counted and written down?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../support/files.js';
import { request } from '../support/http.js';
import { web } from '../support/sidecar.js';
import { type Case, check } from './support.js';

/** An endpoint that no connection can be made to. */
const unreachable = (endpoint: string, path: string) =>
  web({ routes: [{ to: 'app' }], accessLog: { path } }, { clusters: { app: { endpoints: [endpoint] } } });

const ask: Case['cause'] = ({ sidecar }) => request(sidecar.port('web'));

check('upstream', [
  {
    reason: 'connect_unreachable',
    when: 'an address that no TCP goes to',
    // The kernel refuses it whatever its routes are.
    work: (path) => unreachable('255.255.255.255:80', path),
    cause: ask,
    answer: [502, 'destination_ip_unroutable'],
    counted: ['responses', 'upstream_connect_failures'],
  },
  {
    reason: 'connect_failed',
    when: 'a socket whose folder is a file',
    work: (path, t) => {
      const file = join(temporaryFolder(t), 'file');
      writeFileSync(file, '');
      return unreachable(`unix:${file}/app.sock`, path);
    },
    cause: ask,
    answer: [502, 'destination_unavailable'],
    counted: ['responses', 'upstream_connect_failures'],
  },
]);
