/** What is wrong with a mesh, and how is it mended? Pure: from its status to findings. */

import type { SourceStatus } from '../../discovery/types.js';
import { type IssuerLife, standingOf } from '../issuer-life.js';
import type { MeshStatus, MissingStatus, ServiceStatus, SidecarStatus, StrangerStatus } from './types.js';

/** Something about a mesh, and what to do about it. */
export interface Finding {
  /** `note`: it is as it should be, and one had better know it. */
  readonly level: 'ok' | 'note' | 'warning' | 'error';
  readonly what: string;
  readonly mend?: string;
}

/** A certificate is renewed when at least a quarter of its life is left: with less, that has failed for long. */
const ENDING_SHARE = 0.2;
/** The same of the shortest life that there is, 1 min, where the life is not known. */
const ENDING_MS = 12_000;
/** A sidecar that lost its control plane is back within seconds of its return. */
const SILENT_MS = 30_000;

/** What is wrong, what is right, and what one had better know. */
export function check(status: MeshStatus): Finding[] {
  const { sidecars, missing, strangers, revoked, services, edges, sources, issuer, atMs, version } = status;
  const findings = [
    ...(issuer ? checkIssuer(issuer, atMs) : []),
    ...sidecars.flatMap((sidecar) => checkSidecar(sidecar, version, atMs)),
    ...missing.flatMap((one) => checkMissing(one, atMs)),
    ...strangers.map(strange),
    ...revoked.map((whom): Finding => ({
      level: 'warning',
      what: `${whom} is revoked: calls by it and to it fail`,
      mend: `mesh revoke ${whom} --undo, where it is to be believed again`,
    })),
    ...sources.flatMap((source) => checkSource(source, atMs)),
    ...services.flatMap((service) => checkService(service, sources)),
  ];
  if (sidecars.length === 0) {
    const mend = 'look at their logs: they may not reach the control plane, or have no valid token';
    findings.push({ level: 'error', what: 'no sidecar is connected', mend });
  }
  for (const edge of edges) {
    if (edge.direction !== 'inbound' || edge.mtls || edge.requests === edge.denied) continue;
    const what = `${edge.identity} takes requests without TLS (${edge.requests - edge.denied})`;
    findings.push({
      level: 'warning',
      what,
      mend: 'call it by its name through the mesh, or deny it by policy',
    });
  }
  if (findings.length === 0) {
    findings.push({ level: 'ok', what: `all ${sidecars.length} sidecars are ready, with good certificates` });
  }
  return [...findings, ...(status.isBypassable ? [BYPASS] : [])];
}

const BYPASS: Finding = {
  level: 'note',
  what: 'other processes of this machine can go around a sidecar: each application listens on the loopback',
  mend: 'where that matters, run mesh control, and sidecars with interception (mesh redirect)',
};

const dateOf = (atMs: number): string => new Date(atMs).toISOString().replace(/\.\d+Z$/, 'Z');
const secondsOf = (spanMs: number): string => `${Math.round(spanMs / 1000)} s`;

function checkIssuer(issuer: IssuerLife, atMs: number): Finding[] {
  if (atMs < issuer.notBeforeMs) {
    const [begins, ends, now] = [issuer.notBeforeMs, issuer.notAfterMs, atMs].map(dateOf);
    const what = `the issuer is good from ${begins} to ${ends}, and the control plane's clock says ${now}`;
    return [{ level: 'error', what, mend: 'set the clock, or put another issuer in its place' }];
  }
  const standing = standingOf(issuer, atMs);
  if (standing === 'good') return [];
  const mend = 'put another one in its place: docs/discovery.md';
  if (standing === 'ended')
    return [{ level: 'error', what: 'the issuer has ended: nobody gets a certificate', mend }];
  const [left, of] = [issuer.notAfterMs - atMs, issuer.notAfterMs - issuer.notBeforeMs].map(secondsOf);
  return [{ level: 'warning', what: `the issuer ends in ${left} of ${of}`, mend }];
}

function checkSidecar(sidecar: SidecarStatus, version: string, atMs: number): Finding[] {
  const { name, phase, nacks } = sidecar;
  const findings: Finding[] = nacks.map(({ resource, name: refused, reason }) => ({
    level: 'error',
    what: `${name} refuses ${kindOf(resource)} ${refused}: ${reason}`,
    mend: `${kindOf(resource) === 'Name' ? 'the rest' : 'the last good one'} serves; mend what was written last`,
  }));
  if (sidecar.sharesName) {
    const what = `${name} is the name of more than one sidecar of ${sidecar.identity}: only the one that came last is there, until another comes again`;
    findings.push({ level: 'error', what, mend: 'start each with a --name of its own, or without --name' });
  }
  if (phase === 'connected') {
    const mend = `look at its log and at its /ready`;
    findings.push({ level: 'warning', what: `${name} is connected and not ready`, mend });
  }
  if (sidecar.version !== version) {
    const what = `${name} is of version ${sidecar.version}, its control plane of ${version}`;
    findings.push({ level: 'warning', what, mend: 'run both from the same release' });
  }
  return [...findings, ...checkCertificate(sidecar, atMs)];
}

function checkCertificate(sidecar: SidecarStatus, atMs: number): Finding[] {
  const { name, certificateNotAfterMs, certificateLifeMs: lifeMs } = sidecar;
  if (certificateNotAfterMs === null) return [];
  const leftMs = certificateNotAfterMs - atMs;
  if (leftMs >= (lifeMs === null ? ENDING_MS : lifeMs * ENDING_SHARE)) return [];
  const of = lifeMs === null ? '' : ` of ${secondsOf(lifeMs)}`;
  const what =
    leftMs < 0
      ? `${name}'s certificate has ended`
      : `${name}'s certificate ends in ${secondsOf(leftMs)}${of}`;
  return [{ level: 'error', what, mend: 'look why it is not renewed: its log says' }];
}

function checkMissing({ name, sinceMs }: MissingStatus, atMs: number): Finding[] {
  if (atMs - sinceMs < SILENT_MS) return [];
  const what = `${name} left without a word, ${secondsOf(atMs - sinceMs)} ago`;
  return [{ level: 'warning', what, mend: 'look whether it runs, and reaches the control plane' }];
}

function strange({ name, identity }: StrangerStatus): Finding {
  const what = `${name} is ${identity}, which is no service, and no endpoint names it: only policies to '*' hold for it`;
  const mend = 'start it as a service, or name its identity where endpoints are written';
  return { level: 'warning', what, mend };
}

function checkService(service: ServiceStatus, sources: readonly SourceStatus[]): Finding[] {
  const { name, lacking = [] } = service;
  const lacks = lacking.map(({ sidecar, ports }): Finding => {
    const said = `port ${ports.join(' and ')}`;
    const mend = `start it with --ports ${ports.map((port) => `${port}=127.0.0.1:PORT`).join(',')}, where its application listens`;
    return { level: 'warning', what: `${sidecar} does not offer ${said} of ${name}`, mend };
  });
  return [...checkEndpoints(service, sources), ...lacks];
}

function checkEndpoints(
  { name, endpoints, why }: ServiceStatus,
  sources: readonly SourceStatus[],
): Finding[] {
  // That it has none because its source fails is told with why.
  const isExplained = sources.some(({ service, state }) => service === name && state === 'failing');
  if (endpoints > 0 || isExplained) return [];
  const what = `${name} has no endpoints: calls to it fail`;
  if (why === undefined) return [{ level: 'error', what, mend: 'start it, or look why it is not ready' }];
  return [{ level: 'error', what: `${what}; ${why}`, mend: 'mend that: what it said is where mesh up runs' }];
}

function checkSource(source: SourceStatus, atMs: number): Finding[] {
  const { service, name, state, endpoints, problem, failingSinceMs, saidAtMs } = source;
  if (state === 'live') return [];
  if (state === 'waiting') {
    const mend = 'look whether it can be reached';
    return [{ level: 'warning', what: `${service}: ${name} has not said what there is`, mend }];
  }
  const since = failingSinceMs === null ? '' : ` for ${secondsOf(atMs - failingSinceMs)}`;
  const last = saidAtMs === null ? '' : `, as told ${secondsOf(atMs - saidAtMs)} ago`;
  const mend = endpoints > 0 ? `the ${endpoints} endpoints it had serve on${last}` : 'nobody answers for it';
  const level = endpoints > 0 ? 'warning' : 'error';
  return [{ level, what: `${service}: ${name} fails${since}: ${problem}`, mend }];
}

/** The last part of a type URL: `Cluster`. */
function kindOf(resource: string): string {
  return resource.slice(resource.lastIndexOf('.') + 1);
}
