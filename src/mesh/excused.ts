/**
 * Is this a mistake only because another one was left out?
 *
 * A mesh file is looked at without what has the wrong shape. Who a service is and which ports it has may have stood there:
 * what others say about it is doubtful then, and is told once the first mistake is mended.
 */

import type { RawIssue } from '../config/issues.js';
import type { Path } from '../config/path.js';
import type { Rest } from '../config/rest.js';
import { label } from './formats.js';

/** What of a service says who it is, and by which ports it is called. */
const TELLING: ReadonlySet<unknown> = new Set(['run', 'address', 'discover', 'port', 'ports']);

/** Whether that can't be said of a mistake in the rest. Its path is that of what was written. */
export function isExcused(issue: RawIssue, rest: Rest<unknown>): boolean {
  return rest.excuses(issue) || isDoubtful(issue, doubtful(rest.leftOut));
}

/** The services that were left out, or are known in part. */
function doubtful(leftOut: readonly Path[]): ReadonlySet<string> {
  const services = leftOut.flatMap(([kind, name, key]) =>
    kind === 'services' && typeof name === 'string' && (key === undefined || TELLING.has(key)) ? [name] : [],
  );
  return new Set(services.flatMap((name) => [name, meant(name)]));
}

/** What a name that is none was meant as. */
const meant = (name: string): string => label.advise?.(name)?.replace('write ', '') ?? name;

function isDoubtful({ code, path, message }: RawIssue, services: ReadonlySet<string>): boolean {
  if (code === 'unknown_service')
    return services.has(serviceIn(message.replace(/^there is no service /, '')));
  if (code !== 'unknown_port' && code !== 'conflict') return false;
  const [kind, name = ''] = path;
  return kind === 'policies' ? services.size > 0 : services.has(serviceIn(String(name)));
}

/** The service of `basket:9000`. */
const serviceIn = (name: string): string => name.split(':')[0] ?? name;
