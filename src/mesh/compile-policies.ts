/** What do the policies of a mesh file mean in resources? */

import { conditions, pathMatch } from '../config/compile-route.js';
import { filled, listed, present } from '../config/compile-values.js';
import { network } from '../config/formats.js';
import type { Path } from '../config/path.js';
import type { AuthorizationPolicy, GrpcMatch, Peer, PolicyRule } from '../config/resources.js';
import type { SourceMap } from '../config/source-map.js';
import { readPermission } from './formats.js';
import { type MeshNames, identityOf } from './names.js';
import type { PolicyConfig } from './types.js';

/** What a policy protects where it is enforced: the listener that a sidecar serves others on. */
export const INBOUND = 'inbound';

/** A policy, and the services that it is for; undefined: all. */
export interface CompiledPolicy {
  readonly to: ReadonlySet<string> | undefined;
  readonly policy: AuthorizationPolicy;
}

/** The policy at `at` in the configuration. */
export function compilePolicy(
  written: PolicyConfig,
  index: number,
  names: MeshNames,
  sources: SourceMap,
): CompiledPolicy {
  const at: Path = ['policies', index];
  sources.set(at, at);
  const action = written.allow === undefined ? 'deny' : 'allow';
  const to = listed(written.to);
  const rules = rulesOf(written, action, at, names, sources);
  return {
    to: to.includes('*') ? undefined : new Set(to),
    policy: present({
      name: written.name ?? `policy-${index + 1}`,
      targets: [{ kind: 'listener' as const, value: INBOUND }],
      action,
      mode: written.audit === true ? ('audit' as const) : undefined,
      rules,
    }),
  };
}

/** One rule for each request that is named, and each way to say who. */
function rulesOf(
  written: PolicyConfig,
  action: 'allow' | 'deny',
  at: Path,
  names: MeshNames,
  sources: SourceMap,
): PolicyRule[] {
  const said = written[action];
  const permissions = said === true || said === undefined ? [undefined] : listed(said);
  const rules: PolicyRule[] = [];
  for (const [place, permission] of permissions.entries()) {
    for (const who of callersOf(written, action, names)) {
      const rule: Path = [...at, 'rules', rules.length];
      sources.set(rule, Array.isArray(said) ? [...at, action, place] : [...at, action]);
      rules.push(
        present({
          ...who,
          ports: filled([...(written.ports ?? [])]),
          ...requestOf(permission),
          headers: conditions(written.headers, sources, [...rule, 'headers'], [...at, 'headers']),
        }),
      );
    }
  }
  return rules;
}

/** Identities and networks are two ways to meet a policy: either will do. */
function callersOf(
  { from }: PolicyConfig,
  action: 'allow' | 'deny',
  names: MeshNames,
): Pick<PolicyRule, 'from' | 'networks'>[] {
  const written = from === undefined ? [action === 'allow' ? '*' : 'anyone'] : listed(from);
  if (written.includes('anyone')) return [{}];
  const isNetwork = (text: string): boolean => !text.startsWith('spiffe:') && network.accepts(text);
  const peers = filled(written.filter((text) => !isNetwork(text)).map((text) => peerOf(text, names)));
  const networks = filled(written.filter(isNetwork).map(withLength));
  return [...(peers ? [{ from: peers }] : []), ...(networks ? [{ networks }] : [])];
}

/** One address is a network of one. */
function withLength(text: string): string {
  if (text.includes('/')) return text;
  return `${text}/${text.includes(':') ? 128 : 32}`;
}

function peerOf(text: string, names: MeshNames): Peer {
  if (text === '*') return { kind: 'authenticated' };
  if (text.startsWith('ns/')) {
    return { kind: 'namespace', value: { trustDomain: names.trustDomain, name: text.slice(3) } };
  }
  if (!text.startsWith('spiffe:')) return { kind: 'identity', value: identityOf(text, names) };
  return text.endsWith('/*')
    ? { kind: 'identityPrefix', value: text.slice(0, -2) }
    : { kind: 'identity', value: text };
}

function requestOf(text: string | undefined): Pick<PolicyRule, 'methods' | 'paths' | 'grpc'> {
  const read = text === undefined ? undefined : readPermission(text);
  if (!read) return {};
  const { methods, path, grpc } = read;
  return present({
    methods: filled([...methods]),
    paths: path === undefined ? undefined : [pathMatch(path)],
    grpc: grpc === undefined ? undefined : [grpcOf(grpc)],
  });
}

function grpcOf(text: string): GrpcMatch {
  const [service = '', method] = text.split('/');
  return present({ service, method: method === '*' ? undefined : method });
}
