// How is Node's http-proxy set up? A server of Node in front, an agent that keeps connections behind.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureHttpProxy } from '../lib/install.mjs';
import { here } from '../lib/places.mjs';

let folder;

export const httpProxy = {
  name: 'http-proxy',
  programs: [],

  async prepare() {
    folder = await ensureHttpProxy();
  },

  version() {
    const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return `${version} (Node ${process.versions.node})`;
  },

  plan({ shape, port, origin, certificate }) {
    const tls = shape === 'tls' ? [certificate.certificate, certificate.key] : [];
    const host = join(here, 'peers', 'http-proxy-host.mjs');
    return { files: {}, command: () => [process.execPath, host, folder, String(port), origin.http, ...tls] };
  },
};
