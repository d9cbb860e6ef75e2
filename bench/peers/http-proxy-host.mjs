// node http-proxy-host.mjs PACKAGE PORT ORIGIN [CERTIFICATE KEY]: a proxy as people write it with http-proxy.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';

const [folder, port, origin, certificate, key] = process.argv.slice(2);
const httpProxy = createRequire(import.meta.url)(folder);

const agent = new http.Agent({ keepAlive: true });
const proxy = httpProxy.createProxyServer({ target: `http://${origin}`, agent });
proxy.on('error', (error, _request, response) => {
  response.writeHead?.(502);
  response.end(error.message);
});

const forward = (request, response) => proxy.web(request, response);
const server = certificate
  ? https.createServer(
      {
        cert: readFileSync(certificate),
        key: readFileSync(key),
        minVersion: 'TLSv1.3',
        ALPNProtocols: ['http/1.1'],
      },
      forward,
    )
  : http.createServer(forward);
server.keepAliveTimeout = 3_600_000;
server.listen(Number(port), '127.0.0.1');
