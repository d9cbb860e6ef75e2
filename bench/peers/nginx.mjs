// How is nginx set up for each kind of listener? One worker, no log, a pool of kept connections to the origin.

import { spawnSync } from 'node:child_process';

/** Kept for ever: the benchmark's connections are not to be counted out. */
const KEPT = 'keepalive_requests 1000000000;\n  keepalive_timeout 1h;';

export const nginx = {
  name: 'nginx',
  programs: ['nginx'],

  version() {
    return /nginx\/(\S+)/.exec(spawnSync('nginx', ['-v'], { encoding: 'utf8' }).stderr)[1];
  },

  plan({ shape, port, origin, certificate, folder }) {
    const config = `daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr error;
${shape === 'tcp' ? 'load_module /usr/lib/nginx/modules/ngx_stream_module.so;' : ''}
events {
  worker_connections 8000;
}
${shape === 'tcp' ? stream(port, origin) : http({ shape, port, origin, certificate, folder })}
`;
    const command = (path) => ['nginx', '-p', folder, '-e', 'stderr', '-c', path('nginx.conf')];
    return { files: { 'nginx.conf': config }, command };
  },
};

function stream(port, origin) {
  return `stream {
  server {
    listen 127.0.0.1:${port};
    proxy_pass ${origin.tcp};
  }
}`;
}

function http({ shape, port, origin, certificate, folder }) {
  const listen = { h1: '', tls: 'ssl', 'h2-h1': 'http2', 'h2-h2': 'http2' }[shape];
  const temporary = ['client_body', 'proxy', 'fastcgi', 'scgi', 'uwsgi'];
  // nginx speaks HTTP/2 to an upstream for gRPC alone.
  const pass =
    shape === 'h2-h2'
      ? 'grpc_pass grpc://origin;'
      : `proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_max_temp_file_size 0;`;
  return `http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join('\n  ')}
  ${KEPT}
  ssl_certificate ${certificate.certificate};
  ssl_certificate_key ${certificate.key};
  ssl_protocols TLSv1.3;
  upstream origin {
    server ${origin.http};
    keepalive 256;
    ${KEPT}
  }
  server {
    listen 127.0.0.1:${port} ${listen};
    location / {
      ${pass}
    }
  }
}`;
}
