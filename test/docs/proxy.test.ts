// Do the commands for one proxy work as the manual says: beside a server, from a file, asked by its operator?

import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Authority } from '../support/certificates.js';
import { http2Origin, httpOrigin, request } from '../support/http.js';
import { must } from '../support/processes.js';
import { until, within } from '../support/wait.js';
import { Ports, Shell, example, page, printed } from './support.js';

test.serial('docs/sidecar.md: in front of a server, by resources, and with a command', async (t) => {
  const origin = await httpOrigin(t);
  const ports = new Ports({ 3000: origin.port });
  const shell = await Shell.open(t, ports);
  const port = await ports.of('8080');
  const front = await shell.serve(example('docs/sidecar.md', 'front'));
  t.is((await request(port)).status, 200);
  await front.kill();

  await shell.write('mesh.yaml', "listeners: [{ address: '127.0.0.1:8080', to: 127.0.0.1:3000 }]\n");
  const [compile = '', check = '', serve = ''] = example('docs/sidecar.md', 'compiled').trim().split('\n');
  await shell.type(compile);
  await shell.type(check);
  const compiled = await shell.serve(serve);
  t.is((await request(port)).status, 200);
  await compiled.kill();

  const behind = new Ports();
  const beside = await Shell.open(t, behind);
  const server =
    "import http from 'node:http'; http.createServer((_, r) => r.end('mine')).listen(PORT, '127.0.0.1');";
  await beside.write('server.mjs', server.replace('PORT', String(await behind.of('3000'))));
  await beside.serve(example('docs/sidecar.md', 'command'));
  const answer = await until('the command answers', async () => {
    const { text } = await request(await behind.of('8080'));
    return text === 'mine' && text;
  });
  t.is(answer, 'mine');
});

test.serial('docs/configuration.md: its file is checked, explained, compiled and served', async (t) => {
  const api = () =>
    http2Origin(t, (stream) => {
      stream.respond({ ':status': 200 });
      stream.end('api');
    });
  const shell = await Shell.open(t, new Ports({ 3001: (await api()).port, 3002: (await api()).port }));
  await shell.write('mesh.yaml', example('docs/configuration.md', 'mesh.yaml'));
  const authority = await Authority.create(t);
  const { certificate, key } = await authority.sign({ names: ['shop.test'] });
  copyFileSync(certificate, join(shell.folder, 'web.crt'));
  copyFileSync(key, join(shell.folder, 'web.key'));
  const [validate = '', explain = '', compile = '', run = ''] = example('docs/configuration.md', 'commands')
    .trim()
    .split('\n');
  t.regex(await shell.type(validate), /^mesh\.yaml: ok, /);
  t.regex(await shell.type(explain), /\bsite\b/);
  await shell.type(compile);
  await shell.type('mesh-sidecar --config resources.json --check');
  await printed(await shell.stay(run), /listening on/);
  const port = await shell.ports.of('8080');
  const resolve = ['--cacert', authority.root, '--resolve', `shop.test:${port}:127.0.0.1`];
  t.is(await must('curl', ['-sS', ...resolve, `https://shop.test:${port}/api/items`]), 'api');
});

test.serial('docs/limits.md and docs/mesh-file.md: their files are good', async (t) => {
  const shell = await Shell.open(t);
  for (const text of [example('docs/limits.md', 'mesh.yaml'), example('docs/mesh-file.md', 'mesh.yaml')]) {
    await shell.write('mesh.yaml', text);
    t.regex(await shell.type('mesh validate mesh.yaml'), /^mesh\.yaml: ok, /);
  }
});

test.serial('docs/operate.md: a proxy answers its operator, writes its log and drains', async (t) => {
  const ports = new Ports({ 3000: (await httpOrigin(t)).port });
  const shell = await Shell.open(t, ports, { MESH_ADMIN: `127.0.0.1:${await ports.of('4191')}` });
  await shell.write('mesh.yaml', example('docs/operate.md', 'mesh.yaml'));
  const running = await shell.stay('mesh run -c mesh.yaml');
  await printed(running, /listening on/);
  const log = join(shell.folder, 'access.log');
  const port = await ports.of('8080');
  const line = await until('a line of the tenth that is written', async () => {
    t.is((await request(port)).status, 200);
    return existsSync(log) && /^.*\n/.exec(readFileSync(log, 'utf8'))?.[0];
  });
  const [fields = ''] = /^Fields that are absent[^]*/m.exec(page('docs/operate.md')) ?? [];
  for (const field of Object.keys(JSON.parse(line) as object)) t.true(fields.includes(`\`${field}\``), field);

  const [ready = '', config = '', level = '', drain = ''] = example('docs/operate.md', 'ask')
    .trim()
    .split('\n');
  t.is(await shell.type(ready), 'ready\n');
  t.like(JSON.parse(await shell.type(config)), { listeners: [{ name: 'web' }] });
  await shell.type(level);
  t.is(await shell.type('curl http://127.0.0.1:4191/log-level'), 'debug\n');
  await shell.type(drain);
  t.deepEqual(await within('its end', running.exit), { code: 0, signal: null });
});
