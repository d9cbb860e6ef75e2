/** Is a copy ready? One question, answered within its deadline; what is missing is said in words. */

import http from 'node:http';
import net from 'node:net';
import type { Readiness } from '../services.js';

const DEADLINE_MS = 2000;

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

/** Whether the sidecar and the application behind it may be sent requests. */
export async function probe(admin: string, application: string, readiness: Readiness): Promise<Missing> {
  const sidecar = await status(admin, '/ready');
  if (sidecar !== 200) {
    const what = sidecar === undefined ? 'its sidecar does not answer yet' : 'its sidecar is not ready';
    return { who: 'sidecar', what };
  }
  const who = 'application';
  if (readiness.kind === 'tcp') {
    if (await accepts(application)) return undefined;
    return { who, what: `nothing listens on ${application}`, mend: WRONG_PORT };
  }
  const answer = await status(application, readiness.path);
  if (answer === undefined) return { who, what: `nothing answers on ${application}`, mend: WRONG_PORT };
  return answer >= 200 && answer < 400 ? undefined : { who, what: `${readiness.path} answers ${answer}` };
}

function parts(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}

function status(address: string, path: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const request = http.get({ ...parts(address), path, agent: false, timeout: DEADLINE_MS }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.once('timeout', () => request.destroy());
    request.once('error', () => resolve(undefined));
  });
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
