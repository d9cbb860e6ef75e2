/**
 * Where does the proxy say what it is doing?
 *
 * To any logger of pino's shape. The default writes plain lines to standard error; nothing is logged per request.
 */

/** Logs one line: details and a message, or a message alone. */
export interface LogMethod {
  (details: object, message?: string): void;
  (message: string): void;
}

/** The part of a logger that is used; pino, bunyan, Fastify's `log` and others have it. */
export interface Logger {
  /** What only who looks for a fault wants to see. */
  debug: LogMethod;
  /** What happens in the ordinary way. */
  info: LogMethod;
  /** What needs attention; the proxy goes on. */
  warn: LogMethod;
  /** What failed. */
  error: LogMethod;
}

/** How much is logged: this level and the ones after it. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Every level, the gravest last. */
export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** A logger without a library. */
export interface PlainLoggerOptions {
  /** Default `info`. */
  level?: LogLevel;
  /** Takes each line, with its newline. Default: standard error. */
  write?: (line: string) => void;
  /** Default: the system's clock. */
  now?: () => Date;
}

/** Plain lines: `2026-01-02T03:04:05.678Z warn  listener closed listener=web`. */
export function plainLogger(options: PlainLoggerOptions = {}): Logger {
  return lineLogger(options, (time, level, details, message) => {
    const words = [message, ...Object.entries(details).map(pair)];
    return `${time} ${level.padEnd(5)} ${words.filter(Boolean).join(' ')}`;
  });
}

/** A JSON object a line: `time`, `level`, `message` and the details. */
export function jsonLogger(options: PlainLoggerOptions = {}): Logger {
  return lineLogger(options, (time, level, details, message) => {
    const plain: [string, unknown][] = Object.entries(details).map(([name, value]: [string, unknown]) => [
      name,
      value instanceof Error ? value.message : value,
    ]);
    return safeJson({ ...Object.fromEntries(plain), time, level, message });
  });
}

function lineLogger(
  options: PlainLoggerOptions,
  render: (time: string, level: LogLevel, details: object, message: string) => string,
): Logger {
  const { level = 'info', now = () => new Date() } = options;
  const write = options.write ?? writeToStandardError;
  const method = (own: LogLevel): LogMethod => {
    if (LOG_LEVELS.indexOf(own) < LOG_LEVELS.indexOf(level)) return silent;
    return (first: object | string, message?: string) => {
      const [details, words] = typeof first === 'string' ? [{}, first] : [first, message ?? ''];
      write(`${render(now().toISOString(), own, details, words)}\n`);
    };
  };
  return { debug: method('debug'), info: method('info'), warn: method('warn'), error: method('error') };
}

let isHeard = false;

/** That nobody reads any more is no failure of whoever writes. */
function writeToStandardError(line: string): void {
  const { stderr } = process;
  // The stream tells of it later than any callback, even of `console.error`: for good, then.
  if (!isHeard) stderr.on('error', () => {});
  isHeard = true;
  stderr.write(line);
}

const silent = (): void => {};

/** A logger that says nothing. */
export const silentLogger: Logger = { debug: silent, info: silent, warn: silent, error: silent };

/** `name=value`; a value that isn't one plain word is quoted, so that a line stays one line. */
function pair([name, value]: [string, unknown]): string {
  const text = value instanceof Error ? value.message : typeof value === 'string' ? value : safeJson(value);
  return `${name}=${/^[^\s"=]+$/.test(text) ? text : JSON.stringify(text)}`;
}

/** JSON of anything: what can't be written (a cycle, a big integer) is described. */
function safeJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
