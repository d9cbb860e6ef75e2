// Does `mesh up` start, watch, restart and end real processes, and leave nothing behind?
//
// The sidecars are real ones, with plain addresses instead of a control plane: what is tested here is the life of the
// processes. The mesh itself is tested where it is whole.
//
// Half of the tests run one after the other, and then the others at once: all at once would be more processes than a small
// machine starts in time.

import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { SOCKET, askStatus } from '../../src/mesh/admin/client.js';
import { check } from '../../src/mesh/admin/findings.js';
import { temporaryFolder } from '../support/files.js';
import { request } from '../support/http.js';
import { lives } from '../support/pids.js';
import { type Running, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { PATIENCE_MS, until, within } from '../support/wait.js';

const UP = join(process.cwd(), '.build', 'test', 'mesh', 'programs', 'up.js');

/** Becomes a plain sidecar between the inbound address and the application's; keeps what it was told. */
const PLAIN = `#!/bin/sh
set -eu
while [ "$1" != -- ]; do
  case $1 in
    --inbound) inbound=$2 ;;
    --admin) admin=$2 ;;
    --ports) to=\${2#*=}; to=\${to%%[,/]*} ;;
    --name) name=$2 ;;
    --token-file) token=$2 ;;
    --with-parent) parent=$2 ;;
    --grace) grace=$2 ;;
  esac
  flags="\${flags-} $1=$2"
  shift 2
done
{ echo "$flags"; stat -c %a "$token" "$(dirname "$token")"; cat "$token"; } > "$TOLD/$name"
exec "$TEST_SIDECAR" --listen "$inbound" --to "$to" --admin "$admin" --lame-duck 0s --grace "$grace" \\
  --with-parent "$parent" --log-level warn "$@"
`;

/** A server that answers with its variables, and ends when asked to at /end. */
const SERVER = `
const http = require('node:http');
console.log('up on ' + process.env.PORT);
let healthy = true;
http.createServer((request, response) => {
  if (request.url === '/end') process.exit(3);
  if (request.url === '/sick') healthy = false;
  if (request.url === '/well') healthy = true;
  if (request.url === '/healthz' && !healthy) response.statusCode = 503;
  response.end(JSON.stringify({ pid: process.pid, env: process.env, args: process.argv.slice(2) }));
}).listen(process.env.PORT, '127.0.0.1');
`;

/** Each mesh is many processes, and several start at the same moment. */
const LONG_MS = 2 * PATIENCE_MS;

interface Line {
  event: string;
  copy?: string;
  phase?: string;
  application?: string;
  admin?: string;
  text?: string;
  why?: string;
  batch?: {
    upsert: {
      endpoints: { cluster: string; localities: { endpoints: { address: string; health?: string }[] }[] }[];
    };
  };
}

class Up {
  constructor(
    readonly process: Running,
    readonly folder: string,
  ) {}

  lines(): Line[] {
    const whole = this.process.stdout().toString().split('\n').slice(0, -1);
    return whole.map((line) => JSON.parse(line) as Line);
  }

  /** Resolves with the first line that is meant, from a number of lines on. */
  line(what: string, meant: (line: Line) => boolean, from = 0): Promise<Line> {
    const look = (): Line | undefined => {
      const found = this.lines().slice(from).find(meant);
      if (!found && this.process.ended) throw new Error(`it ended: ${this.process.stderr()}`);
      return found;
    };
    return until(what, look, LONG_MS);
  }

  ready(copy: string, from = 0): Promise<Line> {
    return this.line(`${copy} is ready`, (line) => line.copy === copy && line.phase === 'ready', from);
  }

  allReady(): Promise<Line> {
    return this.line('all are ready', ({ event }) => event === 'ready');
  }

  /** What an application says of itself. */
  async ask(copy: string, path = '/', from = 0) {
    const { application = '' } = await this.ready(copy, from);
    const { text } = await request(Number(application.split(':')[1]), { path });
    return JSON.parse(text) as { pid: number; env: Record<string, string>; args: string[] };
  }

  /** The addresses that the control plane was told last for a cluster. */
  endpoints(cluster: string): { address: string; health?: string }[] | undefined {
    const groups = this.lines().flatMap(({ batch }) => batch?.upsert.endpoints ?? []);
    return groups
      .findLast((group) => group.cluster === cluster)
      ?.localities.flatMap(({ endpoints }) => endpoints);
  }

  /** Waits until the control plane was told, from a number of lines on, that nobody answers for a cluster. */
  emptied(cluster: string, from: number): Promise<Line> {
    const isEmpty = ({ batch }: Line): boolean =>
      batch?.upsert.endpoints.some((group) => group.cluster === cluster && group.localities.length === 0) ??
      false;
    return this.line(`nobody answers for ${cluster}`, isEmpty, from);
  }

  /** What a sidecar was told: flags, modes, token. */
  told(name: string): string {
    return readFileSync(join(this.folder, name), 'utf8');
  }
}

function up(t: ExecutionContext, mesh: object, env: NodeJS.ProcessEnv = {}, sidecar?: string): Up {
  const folder = temporaryFolder(t);
  const file = join(folder, 'mesh.json');
  writeFileSync(file, JSON.stringify(mesh));
  writeFileSync(join(folder, 'server.cjs'), SERVER);
  writeFileSync(join(folder, 'plain'), PLAIN);
  chmodSync(join(folder, 'plain'), 0o700);
  const process_ = start(
    t,
    process.execPath,
    [UP, file, '-o', 'json', '--sidecar', sidecar ?? join(folder, 'plain')],
    {
      env: { ...cleanEnvironment(), TMPDIR: folder, TOLD: folder, ...env },
    },
  );
  return new Up(process_, folder);
}

const RUN = 'exec node server.cjs';

/** Longer than a second signal may come after the first and be its echo. */
const ECHO_MS = 600;

/** Every process that was started from a folder's files: they have it in their environment. */
function processesOf(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`TOLD=${folder}\0`) && lives(Number(pid))
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}

test('every copy is started with a port and a sidecar of its own, and becomes an endpoint when it is ready', async (t) => {
  const mesh = up(t, {
    mesh: { knownServicesOnly: true, opaquePorts: [25, '8000-8010'] },
    services: {
      web: {
        run: `${RUN} {port} {port.grpc} {other}`,
        copies: 2,
        port: 3000,
        ports: { grpc: 9000 },
        env: { LEVEL: 'high', NODE_OPTIONS: '--no-deprecation' },
      },
      basket: { run: RUN, protocol: 'http1', ready: { http: '/healthz' } },
      ledger: { address: '10.0.0.7:5432', protocol: 'tcp' },
    },
  });
  await mesh.allReady();
  const [one, two, basket] = [await mesh.ask('web.1'), await mesh.ask('web.2'), await mesh.ask('basket.1')];
  t.not(one.env['PORT'], two.env['PORT']);
  t.deepEqual(one.args, [one.env['PORT'], one.env['PORT_GRPC'], '{other}']);
  t.is(one.env['LEVEL'], 'high');
  t.is(basket.env['LEVEL'], undefined);
  const outbound = one.env['MESH_OUTBOUND'];
  for (const name of ['HTTP_PROXY', 'http_proxy']) t.is(one.env[name], `http://${outbound}`);
  t.regex(one.env['NO_PROXY'] ?? '', /127\.0\.0\.1/);
  t.is(one.env['NODE_USE_ENV_PROXY'], '1');
  t.regex(one.env['NODE_OPTIONS'] ?? '', /^--no-deprecation --import file:\/\/\/\S+\/register\.js$/);
  t.true(one.env['MESH_NAMES']?.split(',').includes('basket.default.mesh.local'));
  t.regex(one.env['MESH_URL_BASKET'] ?? '', /^http:\/\/127\.0\.0\.1:\d+$/);
  t.regex(one.env['MESH_URL_WEB_GRPC'] ?? '', /^http:\/\/127\.0\.0\.1:\d+$/);
  t.regex(one.env['MESH_URL_LEDGER'] ?? '', /^tcp:\/\/127\.0\.0\.1:\d+$/);
  t.is(mesh.endpoints('web.default:3000')?.length, 2);
  t.is(mesh.endpoints('basket.default:80')?.length, 1);
  // Through its sidecar.
  const [address = ''] = (mesh.endpoints('basket.default:80') ?? []).map((each) => each.address);
  t.is((JSON.parse((await request(Number(address.split(':')[1]))).text) as { pid: number }).pid, basket.pid);

  const told = mesh.told('web-2');
  for (const flag of [
    /--control=127\.0\.0\.1:4144 /,
    /--identity=spiffe:\/\/mesh\.local\/ns\/default\/sa\/web /,
    /--service=web /,
    new RegExp(
      `--ports=3000=127\\.0\\.0\\.1:${two.env['PORT']},9000=127\\.0\\.0\\.1:${two.env['PORT_GRPC']} `,
    ),
    /--egress=known/,
    /--opaque-ports=25,8000-8010/,
    /--forward=web:3000=127\.0\.0\.1:\d+,web:9000=127\.0\.0\.1:\d+,basket:80=\S+,ledger:5432=\S+\/tcp /,
    /\n600\n700\ntoken of spiffe:\/\/mesh\.local\/ns\/default\/sa\/web$/,
  ]) {
    t.regex(told, flag);
  }
  t.regex(mesh.told('basket-1'), /--ports=80=127\.0\.0\.1:\d+\/http1 /);
});

test.serial('a token is gone once its sidecar is ready, though its application is not', async (t) => {
  const mesh = up(t, { services: { web: { run: 'echo begun; sleep 600' } } });
  await mesh.line('begun', ({ text }) => text === 'begun');
  const [, file = ''] = /--token-file=(\S+)/.exec(mesh.told('web-1')) ?? [];
  t.true(file.startsWith(mesh.folder));
  await until('the token is gone', () => !existsSync(file), LONG_MS);
});

test.serial('what a copy says is told line by line', async (t) => {
  const run = String.raw`printf 'one\ntwo\nhalf'; printf 'wrong\n' >&2; sleep 600`;
  const mesh = up(t, { services: { web: { run } } });
  for (const text of ['one', 'two', 'wrong']) {
    const line = await mesh.line(text, (each) => each.event === 'line' && each.text === text);
    t.is(line.copy, 'web.1');
  }
});

test('a copy that dies is no endpoint any more, and is started again after a pause that doubles', async (t) => {
  const mesh = up(t, { services: { web: { run: RUN } } });
  await mesh.allReady();
  const before = mesh.lines().length;
  const first = await mesh.ask('web.1');
  await mesh.ask('web.1', '/end').catch(() => {});
  const isDead = ({ why }: Line): boolean => why?.startsWith('it ended with exit code 3; ') === true;
  await mesh.line('it died', isDead, before);
  // It may have come back by now.
  await mesh.emptied('web.default:80', before);
  const second = await mesh.ask('web.1', '/', before);
  t.not(second.pid, first.pid);
  t.is(mesh.endpoints('web.default:80')?.length, 1);
  const again = mesh.lines().length;
  await request(Number(second.env['PORT']), { path: '/end' }).catch(() => {});
  await mesh.line('it died again', isDead, again);
  // Also one whose port somebody else had is started again so.
  const waits = mesh.lines().filter(({ phase }) => phase === 'waiting');
  for (const [number, { why = '' }] of waits.entries())
    t.true(why.endsWith(`; starting it again in ${2 ** number} s`), `${number}: ${why}`);
});

test.serial('the roots that sidecars read are replaced whole when a copy starts', async (t) => {
  const mesh = up(t, { services: { web: { run: RUN } } });
  await mesh.allReady();
  const [, roots = ''] = /--trust-anchors=(\S+)/.exec(mesh.told('web-1')) ?? [];
  // Somebody reads it at that moment.
  const reader = openSync(roots, 'r');
  t.teardown(() => closeSync(reader));
  const before = mesh.lines().length;
  await mesh.ask('web.1', '/end').catch(() => {});
  await mesh.ready('web.1', before);
  t.not(statSync(roots).ino, fstatSync(reader).ino);
  t.is(fstatSync(reader).nlink, 0, 'what is read is taken away, and not written to');
  t.is(readFileSync(reader, 'utf8'), readFileSync(roots, 'utf8'));
});

test.serial('a copy that can not be started says why, and the others run', async (t) => {
  const mesh = up(t, {
    services: { web: { run: RUN }, lost: { run: '/no/such/program' }, cold: { run: RUN, cwd: 'nowhere' } },
  });
  await mesh.ready('web.1');
  const lost = await mesh.line('lost died', ({ copy, phase }) => copy === 'lost.1' && phase === 'waiting');
  t.regex(lost.why ?? '', /^it ended with exit code 127; /);
  const cold = await mesh.line('cold died', ({ copy, phase }) => copy === 'cold.1' && phase === 'waiting');
  t.regex(cold.why ?? '', /^it can't be started: its cwd \S+nowhere is not there; /);
});

test.serial('a copy whose probe fails gets no requests until it answers again', async (t) => {
  const mesh = up(t, { services: { web: { run: RUN, ready: { http: '/healthz' } } } });
  await mesh.allReady();
  const before = mesh.lines().length;
  await mesh.ask('web.1', '/sick');
  const sick = await mesh.line('it is not ready', ({ phase }) => phase === 'unready', before);
  t.is(sick.why, 'not ready: /healthz answers 503');
  await mesh.emptied('web.default:80', before);
  await mesh.ask('web.1', '/well');
  await mesh.ready('web.1', before);
  t.is(mesh.endpoints('web.default:80')?.length, 1);
});

test.serial('SIGTERM: copies leave as endpoints, are drained and ended, and nothing stays', async (t) => {
  const mesh = up(t, { services: { web: { run: `${RUN}`, copies: 2 }, other: { run: RUN } } });
  await mesh.allReady();
  t.true(processesOf(mesh.folder).length >= 10);
  const before = mesh.lines().length;
  mesh.process.signal('SIGTERM');
  t.deepEqual(await within('the end', mesh.process.exit, LONG_MS), { code: 0, signal: null });
  const events = mesh.lines().slice(before);
  t.is(events[0]?.event, 'draining');
  t.is(events.at(-1)?.event, 'closed');
  t.true(events.some(({ batch }) => JSON.stringify(batch)?.includes('"health":"draining"')));
  t.deepEqual(mesh.endpoints('web.default:80'), []);
  t.deepEqual(processesOf(mesh.folder), []);
  t.deepEqual(
    readdirSync(mesh.folder).filter((name) => name.startsWith('mesh-up-')),
    [],
  );
});

test.serial('a second signal ends at once what does not want to end', async (t) => {
  const stubborn = `trap '' TERM; while :; do sleep 600; done`;
  const mesh = up(t, { services: { web: { run: RUN }, stubborn: { run: stubborn, grace: '1h' } } });
  await mesh.ready('web.1');
  await mesh.line('stubborn runs', ({ copy, phase }) => copy === 'stubborn.1' && phase === 'starting');
  await until('the sidecar was told', () => existsSync(join(mesh.folder, 'stubborn-1')), LONG_MS);
  mesh.process.signal('SIGINT');
  await mesh.line('it has heard', ({ event }) => event === 'draining');
  const heard = performance.now();
  await mesh.line('web has ended', ({ copy, phase }) => copy === 'web.1' && phase === 'ended');
  t.true(processesOf(mesh.folder).length > 0);
  // What comes sooner would be the echo of the first.
  await until('a signal counts again', () => performance.now() - heard > ECHO_MS);
  mesh.process.signal('SIGINT');
  t.deepEqual(await within('the end', mesh.process.exit, LONG_MS), { code: 1, signal: null });
  t.deepEqual(processesOf(mesh.folder), []);
});

test.serial('a copy whose output somebody else holds open is started again', async (t) => {
  const mesh = up(t, { services: { web: { run: `setsid sleep 600 & ${RUN}` } } });
  t.teardown(() => processesOf(mesh.folder).forEach((pid) => process.kill(pid, 'SIGKILL')));
  await mesh.ready('web.1');
  const isSupervisor = (pid: number): boolean =>
    readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('--as-supervisor');
  const supervisor = processesOf(mesh.folder).find(isSupervisor) ?? 0;
  const from = mesh.lines().length;
  process.kill(supervisor, 'SIGKILL');
  await mesh.line('it ended', ({ copy, phase }) => copy === 'web.1' && phase === 'waiting', from);
  await mesh.ready('web.1', from);
  mesh.process.signal('SIGTERM');
  t.is((await within('the end', mesh.process.exit, LONG_MS)).code, 0);
});

test.serial('nothing stays when it is killed', async (t) => {
  const mesh = up(t, { services: { web: { run: `${RUN} & ${RUN.replace('exec ', '')}; wait`, copies: 2 } } });
  await mesh.ready('web.1');
  t.true(processesOf(mesh.folder).length >= 5);
  mesh.process.signal('SIGKILL');
  await mesh.process.exit;
  await until('all have gone', () => processesOf(mesh.folder).length === 0, LONG_MS);
  t.pass();
});

const canMount = process.getuid?.() === 0 && process.platform === 'linux';
(canMount ? test : test.skip)(
  'a temporary folder that is full is named, and nothing is left in it',
  async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'mesh.json'), JSON.stringify({ services: {} }));
    const script = `
mount -t tmpfs -o size=64k none '${folder}/tmp'
cat /dev/zero > '${folder}/tmp/all' 2> /dev/null || true
TMPDIR='${folder}/tmp' '${process.execPath}' '${UP}' '${folder}/mesh.json' --sidecar /bin/true > /dev/null || true
ls '${folder}/tmp'`;
    mkdirSync(join(folder, 'tmp'));
    const shell = start(t, 'unshare', ['--mount', 'sh', '-ec', script], { env: cleanEnvironment() });
    t.is((await within('the end', shell.exit, LONG_MS)).code, 0, shell.stderr());
    t.regex(
      shell.stderr(),
      new RegExp(`the temporary folder ${folder}/tmp takes no files .*ENOSPC.*: set TMPDIR`),
    );
    t.is(shell.stdout().toString(), 'all\n');
  },
);

test("the next one removes what a killed one left, and nothing that is or may be somebody else's", async (t) => {
  const idle = { services: {} };
  const listening = (mesh: Up): Promise<Line> =>
    mesh.line('the control plane listens', ({ event }) => event === 'listening');
  const foldersIn = (folder: string): string[] =>
    readdirSync(folder).filter((name) => name.startsWith('mesh-up-'));
  const killed = up(t, idle);
  const TMPDIR = killed.folder;
  await listening(killed);
  const [left = ''] = foldersIn(TMPDIR);
  killed.process.signal('SIGKILL');
  await killed.process.exit;
  t.deepEqual(foldersIn(TMPDIR), [left]);
  const owner = JSON.parse(readFileSync(join(TMPDIR, left, 'owner.json'), 'utf8')) as object;
  const put = (name: string, text?: string): void => {
    mkdirSync(join(TMPDIR, `mesh-up-${name}`), { mode: 0o700 });
    if (text !== undefined) writeFileSync(join(TMPDIR, `mesh-up-${name}`, 'owner.json'), text);
  };
  // This process has the number now, and started at another time than the owner.
  put('later', JSON.stringify({ ...owner, pid: process.pid }));
  put('elsewhere', JSON.stringify({ ...owner, where: 'another machine' }));
  put('new');
  put('odd', '{}');

  const living = up(t, idle, { TMPDIR });
  await listening(living);
  const staying = ['mesh-up-elsewhere', 'mesh-up-new', 'mesh-up-odd'];
  const [own = '', ...others] = foldersIn(TMPDIR).filter((name) => !staying.includes(name));
  t.deepEqual(others, []);
  t.not(own, left);
  const next = up(t, idle, { TMPDIR });
  await listening(next);
  next.process.signal('SIGTERM');
  t.is((await next.process.exit).code, 0);
  t.deepEqual(foldersIn(TMPDIR).toSorted(), [...staying, own].toSorted());
});

const folderOf = ({ folder }: Up): string =>
  join(folder, readdirSync(folder).find((name) => name.startsWith('mesh-up-')) ?? 'none');

test('a folder that a cleaner took is made again for who is started, and for who has to join again', async (t) => {
  const mesh = up(t, { services: { web: { run: RUN } } });
  await mesh.allReady();
  const own = folderOf(mesh);
  const owner = readFileSync(join(own, 'owner.json'), 'utf8');
  rmSync(own, { recursive: true });
  const before = mesh.lines().length;
  await mesh.ask('web.1', '/end').catch(() => {});
  await mesh.ready('web.1', before);
  t.is(statSync(own).mode & 0o777, 0o700);
  t.is(readFileSync(join(own, 'owner.json'), 'utf8'), owner);
  t.is(readFileSync(join(own, 'roots.pem'), 'utf8'), 'roots');

  const token = join(own, 'web-1.token');
  await until('the token is forgotten', () => !existsSync(token), LONG_MS);
  rmSync(own, { recursive: true });
  const ready = mesh.lines().findLast(({ copy, phase }) => copy === 'web.1' && phase === 'ready');
  const isSidecar = (pid: number): boolean => {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
    return command.includes(`${ready?.admin}\0`) && !command.includes('--as-supervisor');
  };
  const sidecar = await until('its sidecar', () => processesOf(mesh.folder).find(isSidecar), LONG_MS);
  process.kill(sidecar, 'SIGSTOP');
  t.teardown(() => void processesOf(mesh.folder).forEach((pid) => process.kill(pid, 'SIGCONT')));
  await until('there is a token again', () => existsSync(token), LONG_MS);
  // Before it was used, too.
  rmSync(own, { recursive: true });
  await until('and again', () => existsSync(token), LONG_MS);
  t.is(statSync(own).mode & 0o777, 0o700);
  process.kill(sidecar, 'SIGCONT');
  await until('it is forgotten, too', () => !existsSync(token), LONG_MS);
  mesh.process.signal('SIGTERM');
  t.is((await within('the end', mesh.process.exit, LONG_MS)).code, 0);
  t.false(existsSync(own));
});

const canGive = process.getuid?.() === 0;
for (const [what, take] of [
  ['is no folder', (path: string) => writeFileSync(path, '')],
  ["is somebody else's folder", (path: string) => (mkdirSync(path), chownSync(path, 65_534, 65_534))],
] as const) {
  (canGive || what === 'is no folder' ? test : test.skip)(
    `nothing is written where the mesh's folder was and now ${what}, and mesh check says why nobody answers`,
    async (t) => {
      const mesh = up(t, { services: { web: { run: RUN } } });
      await mesh.allReady();
      const own = folderOf(mesh);
      rmSync(own, { recursive: true });
      take(own);
      const before = mesh.lines().length;
      await mesh.ask('web.1', '/end').catch(() => {});
      const isRefused = ({ phase, why }: Line): boolean =>
        phase === 'waiting' && why?.startsWith("it can't be started") === true;
      const { why = '' } = await mesh.line('it is not started', isRefused, before);
      const reason = `it can't be started: ${own} ${what} by now, and tokens are kept there: take it away`;
      t.true(why.startsWith(`${reason}; `), why);
      if (statSync(own).isDirectory()) t.deepEqual(readdirSync(own), []);
      const finding = check(await askStatus(join(mesh.folder, SOCKET))).find(({ what: about }) =>
        about.startsWith('web has no endpoints'),
      );
      t.is(finding?.what, `web has no endpoints: calls to it fail; web.1: ${reason}`);

      rmSync(own, { recursive: true });
      await mesh.ready('web.1', before);
      t.is((await askStatus(join(mesh.folder, SOCKET))).services[0]?.why, undefined);
      rmSync(own, { recursive: true });
      take(own);
      mesh.process.signal('SIGTERM');
      t.is((await within('the end', mesh.process.exit, LONG_MS)).code, 0);
      t.true(existsSync(own), "what is somebody else's stays");
    },
  );
}

test.serial('ports that are given are taken, one after the other for the copies', async (t) => {
  const base = await closedPort([1, 10, 11]);
  const mesh = up(t, { services: { web: { run: RUN, copies: 2, bind: { port: base, admin: base + 10 } } } });
  await mesh.allReady();
  t.is((await mesh.ready('web.1')).application, `127.0.0.1:${base}`);
  t.is((await mesh.ready('web.2')).application, `127.0.0.1:${base + 1}`);
  t.is((await request(base + 11, { path: '/ready' })).status, 200);
});

test('a mesh file that is wrong is 64, and so is a sidecar that is not there: nothing is started', async (t) => {
  const bad = up(t, { services: { web: { run: RUN, copies: 0 } } });
  t.is((await bad.process.exit).code, 64);
  t.regex(bad.process.stdout().toString(), /services\.web\.copies/);
  const none = up(t, { services: { web: { run: RUN } } }, {}, '/no/such/program');
  t.is((await none.process.exit).code, 64);
  t.regex(none.process.stdout().toString(), /"MESH_OPTION_INVALID"[^]*\/no\/such\/program/);
});

test('new routes and policies of the file are live at once, and what is bad or needs a start changes nothing', async (t) => {
  const services = { web: { run: RUN }, far: { address: '10.0.0.7:80' } };
  const mesh = up(t, { services, policies: [{ to: 'web', allow: true }] });
  await mesh.allReady();
  const write = (content: object): number => {
    writeFileSync(join(mesh.folder, 'mesh.json'), JSON.stringify(content));
    return mesh.lines().length;
  };
  let from = write({
    services,
    policies: [{ to: 'web', deny: 'DELETE' }],
    routes: { web: [{ match: { path: '/x' }, to: 'far' }] },
  });
  await mesh.line('it is applied', ({ event }) => event === 'applied', from);
  const { batch } = await mesh.line('the batch', (line) => line.batch !== undefined, from);
  const text = JSON.stringify(batch);
  t.regex(text, /"action":"deny"/);
  t.regex(text, /"value":"\/x"/);
  t.notRegex(text, /far\.default:80","protocol"/, 'what is the same is not told again');

  from = write({ services, policies: [{ to: 'wob', allow: true }] });
  const refused = await mesh.line('it is refused', ({ event }) => event === 'refused', from);
  t.regex(JSON.stringify(refused), /unknown_service/);
  from = write({ services: { ...services, more: { run: RUN } } });
  const restart = await mesh.line('it needs a start', ({ event }) => event === 'refused', from);
  t.regex(JSON.stringify(restart), /MESH_RESTART_NEEDED.*more: this takes another start: end this one/);

  from = write({ services: { web: services.web } });
  await mesh.line('it is applied', ({ event }) => event === 'applied', from);
  const gone = await mesh.line('the batch', (line) => line.batch !== undefined, from);
  t.regex(JSON.stringify(gone), /"delete":\{[^}]*"clusters":\["far\.default:80"\]/);
});
