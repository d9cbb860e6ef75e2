// How is HAProxy set up for each kind of listener? One thread, no log, everything else as it comes.

import { execFileSync } from 'node:child_process';

export const haproxy = {
  name: 'HAProxy',
  programs: ['haproxy'],

  version() {
    return /version (\S+)/.exec(execFileSync('haproxy', ['-v'], { encoding: 'utf8' }))[1];
  },

  /** The files to write, and the command that serves them. */
  plan({ shape, port, origin, certificate }) {
    const tls = `ssl crt ${certificate.both} ssl-min-ver TLSv1.3 alpn http/1.1`;
    const [bind, server] = {
      h1: ['', ''],
      tls: [tls, ''],
      'h2-h1': ['proto h2', ''],
      'h2-h2': ['proto h2', 'proto h2'],
      tcp: ['', ''],
      'tcp-splice': ['', ''],
    }[shape];
    const isTcp = shape.startsWith('tcp');
    const config = `global
  nbthread 1
  maxconn 4000
defaults
  mode ${isTcp ? 'tcp' : 'http'}
  ${shape === 'tcp-splice' ? 'option splice-auto' : ''}
  ${isTcp ? '' : 'http-reuse always'}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend front
  bind 127.0.0.1:${port} ${bind}
  default_backend origin
backend origin
  server origin ${isTcp ? origin.tcp : origin.http} ${server}
`;
    return {
      files: { 'haproxy.cfg': config },
      command: (path) => ['haproxy', '-db', '-f', path('haproxy.cfg')],
    };
  },
};
