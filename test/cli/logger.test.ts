// Is a line of the log one line, whatever is in it?

import test from 'ava';
import { type Logger, plainLogger, silentLogger } from '../../src/logger.js';

function lines(level: 'debug' | 'info' | 'warn' | 'error', work: (logger: Logger) => void): string[] {
  const written: string[] = [];
  work(plainLogger({ level, write: (line) => written.push(line), now: () => new Date(0) }));
  return written;
}

test('a message, with details or without', (t) => {
  const written = lines('info', (logger) => {
    logger.info('ready');
    logger.warn({ listener: 'web', port: 80 }, 'closed');
    logger.error({ err: new Error('it broke') });
  });
  t.deepEqual(written, [
    '1970-01-01T00:00:00.000Z info  ready\n',
    '1970-01-01T00:00:00.000Z warn  closed listener=web port=80\n',
    '1970-01-01T00:00:00.000Z error err="it broke"\n',
  ]);
});

test('levels below the chosen one are silent', (t) => {
  const all = (logger: Logger): void => {
    logger.debug('d');
    logger.info('i');
    logger.warn('w');
    logger.error('e');
  };
  t.is(lines('debug', all).length, 4);
  t.is(lines('error', all).length, 1);
  t.notThrows(() => all(silentLogger));
});

test('a value never makes a second line, and what JSON cannot say is no failure', (t) => {
  const circle: Record<string, unknown> = {};
  circle['self'] = circle;
  const [line = ''] = lines('info', (logger) =>
    logger.info({ text: 'a\nb "c"', circle, big: 1n, none: undefined }, 'x'),
  );
  t.is(line.indexOf('\n'), line.length - 1);
  t.true(line.includes('text="a\\nb \\"c\\""'));
});
