/** Is a copy ready? Each question is over within its deadline, whatever is answered; what is missing is said in words. */

import http from 'node:http';
import net from 'node:net';
import type { Readiness } from '../services.js';

/** For a question and its whole answer, however lively its bytes are. */
const DEADLINE_MS = 2000;
/** More of an answer is not heard: the reasons of sidecars are short. */
const LONGEST_TEXT = 16 * 1024;
/** More of a reason is not told. */
const LONGEST_REASON = 200;
/** How long an application may take to write out the text of its answer, which nobody reads. */
const LINGER_MS = 200;

/** Undefined: ready. Else what is missing, and how to mend it where whoever has just begun may not know. */
export type Missing =
  | {
      /** Who is not ready. Behind a sidecar that is not, nobody looks at the application. */
      readonly who: 'sidecar' | 'application';
      readonly what: string;
      readonly mend?: string;
    }
  | undefined;

const WRONG_PORT =
  'it has to listen on the port in its variable PORT, which {port} in run is too; bind gives it one of your choice';

/**
 * What a sidecar answers that waits for nothing but its application, which is looked at here, by its own readiness; and one
 * that is revoked: its callers refuse it, and are told why, which they would not be if nobody knew where it is.
 */
const BEARABLE: ReadonlySet<string> = new Set([
  'the application does not listen yet',
  'this identity, or its certificate, was revoked: no workload believes this one',
]);

/** Whether the sidecar and the application behind it may be sent requests. */
export async function probe(admin: string, application: string, readiness: Readiness): Promise<Missing> {
  const sidecar = await get(admin, '/ready');
  if (sidecar === undefined) return { who: 'sidecar', what: 'its sidecar does not answer yet' };
  const says = (await hear(sidecar).catch(() => '')).trim().split('\n');
  const isBearable = says.every((line) => BEARABLE.has(line));
  if (sidecar.statusCode !== 200 && !isBearable) {
    const why = says.find((line) => !BEARABLE.has(line)) ?? '';
    return { who: 'sidecar', what: `its sidecar is not ready${why && `: ${why.slice(0, LONGEST_REASON)}`}` };
  }
  const who = 'application';
  if (readiness.kind === 'tcp') {
    if (await accepts(application)) return undefined;
    return { who, what: `nothing listens on ${application}`, mend: WRONG_PORT };
  }
  const answer = await get(application, readiness.path);
  if (answer === undefined) return { who, what: `nothing answers on ${application}`, mend: WRONG_PORT };
  letGo(answer);
  const { statusCode = 0 } = answer;
  return statusCode >= 200 && statusCode < 400
    ? undefined
    : { who, what: `${readiness.path} answers ${statusCode}` };
}

function parts(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}

function get(address: string, path: string): Promise<http.IncomingMessage | undefined> {
  return new Promise((resolve) => {
    const request = http.get({ ...parts(address), path, agent: false }, resolve);
    const late = setTimeout(() => request.destroy(), DEADLINE_MS);
    request.once('error', () => resolve(undefined));
    // Its answer, if there is one, is over too.
    request.once('close', () => {
      clearTimeout(late);
      resolve(undefined);
    });
  });
}

/** The text of an answer, or its beginning. */
async function hear(answer: http.IncomingMessage): Promise<string> {
  let heard = '';
  for await (const chunk of answer.setEncoding('utf8')) {
    heard += String(chunk);
    if (heard.length > LONGEST_TEXT) break;
  }
  return heard;
}

/** Whoever writes a few lines may finish them, and sees no connection break; a text may also have no end. */
function letGo(answer: http.IncomingMessage): void {
  const end = setTimeout(() => answer.destroy(), LINGER_MS);
  hear(answer)
    .catch(() => {})
    .finally(() => clearTimeout(end));
}

function accepts(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ ...parts(address), timeout: DEADLINE_MS });
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}
