/**
 * Which variable has nearly the name of an option's, and says nothing to anybody for it? And what was an option given by?
 *
 * Variables that begin with `MESH_` may be other programs', or Kubernetes' of a service that is called so: only one that is
 * nearly an option's is told, and none is refused. The sidecar's `settings/mistyped.rs` goes by the same rule.
 */

import type { Command } from 'commander';
import { nearest } from '../config/suggest.js';
import type { World } from './io.js';

const PREFIX = 'MESH_';
/** What the sidecar alone and applications of a mesh are told by. Options of other commands are known by themselves. */
const OTHERS = new Set(
  (
    'MESH_ADVERTISE MESH_ATTESTATION MESH_CONTROL MESH_EGRESS MESH_FORWARD MESH_GRACE MESH_IDENTITY MESH_INBOUND ' +
    'MESH_NAME MESH_NAMES MESH_NAME_IDLE MESH_OPAQUE_PORTS MESH_OUTBOUND MESH_OUTBOUND_FROM MESH_PORTS MESH_SERVICE ' +
    'MESH_TOKEN_FILE MESH_TRANSPARENT MESH_TRUST_ANCHORS MESH_WITH_PARENT'
  ).split(' '),
);
/** Where applications find services (a variable each), and the address of a service that Kubernetes tells. */
const URLS = 'MESH_URL_';
const LINK = /^(tcp|udp|sctp):\/\//;

/** A line for each variable that is taken for a mistyped one of this command's. */
export function mistyped(command: Command, env: World['env']): string[] {
  const own = variablesOf(command).map((variable) => variable.slice(PREFIX.length));
  const all = new Set([...OTHERS, ...(command.parent?.commands ?? [command]).flatMap(variablesOf)]);
  return Object.entries(env)
    .filter(([name, value]) => name.startsWith(PREFIX) && value && !LINK.test(value))
    .filter(([name]) => !all.has(name) && !name.startsWith(URLS))
    .flatMap(([name]) => {
      const meant = nearest(name.slice(PREFIX.length), own);
      return meant === undefined
        ? []
        : [`${name} is no variable of mesh ${command.name()}; did you mean ${PREFIX}${meant}?`];
    })
    .toSorted();
}

const variablesOf = ({ options }: Command): string[] => options.flatMap(({ envVar }) => envVar ?? []);

/** What a flag was given by: its variable, or itself. */
export type GivenBy = (flag: string) => string;

export const givenBy =
  (command: Command): GivenBy =>
  (flag) => {
    const option = command.options.find(({ long }) => long === flag);
    const isVariable = option && command.getOptionValueSource(option.attributeName()) === 'env';
    return (isVariable && option.envVar) || flag;
  };
