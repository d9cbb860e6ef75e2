// Does the proxy speak to the logger of the application, and only about itself?

import { once } from 'node:events';
import test from 'ava';
import { pino } from 'pino';
import { type LogMethod, type Logger, createProxy } from '../../src/index.js';
import { httpOrigin, request } from '../support/http.js';
import { within } from '../support/wait.js';
import { everythingTo, program } from './support.js';

test('pino gets what happens to the proxy, with details as fields', async (t) => {
  const origin = await httpOrigin(t);
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
  const logger = pino({ level: 'info' }, { write });
  const proxy = createProxy(everythingTo(origin.address), {
    threads: 1,
    logger: logger.child({ part: 'edge' }),
  });
  const { addresses } = await proxy.listen();
  await request(addresses[0]?.port ?? 0);
  await proxy.apply(everythingTo(origin.address));
  await t.throwsAsync(proxy.apply(everythingTo('nowhere')));
  await proxy.drain();
  t.deepEqual(
    lines.map(({ msg }) => msg),
    ['listening', 'a new configuration is live', 'draining', 'closed'],
    'nothing for a request, and nothing that a call rejected with',
  );
  t.like(lines[0], { level: 30, part: 'edge', addresses });
});

test("a logger's methods keep their this", async (t) => {
  class Own implements Logger {
    readonly said: string[] = [];
    readonly #take = (level: string, first: object | string, message?: string): void => {
      this.said.push(`${level}: ${typeof first === 'string' ? first : message}`);
    };
    info(first: object | string, message?: string): void {
      this.#take('info', first, message);
    }
    debug: LogMethod = () => {};
    warn: LogMethod = () => {};
    error: LogMethod = () => {};
  }
  const logger = new Own();
  const proxy = createProxy(everythingTo('127.0.0.1:1'), { logger, threads: 1 });
  await proxy.listen();
  await proxy.close();
  t.deepEqual(logger.said, ['info: listening', 'info: closed']);
});

test('the default logger is no failure of its process when nobody reads standard error', async (t) => {
  const running = program(t, 'unread');
  running.child.stderr.destroy();
  await once(running.child.stderr, 'close');
  running.child.stdin.write('begin\n');
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
  t.is(running.stdout().toString(), 'went on\n');
});
