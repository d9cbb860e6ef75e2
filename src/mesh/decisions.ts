/**
 * Who gets a certificate, by what TypeScript says?
 *
 *     what a platform says ──> attest ── believed ──┐
 *     tokens, good certificates ────────────────────┴──> decide ──> a certificate, or a reason
 *
 * Only `attest` admits what a platform says, and `decide` can only refuse. Whoever fails to decide has denied.
 */

import { messageOf } from '../thrown.js';
import type { CertificateRequest, ControlPlaneOptions, Decision } from './control-plane.js';

/** Those who are asked, where they are there. */
export type Deciders = Pick<ControlPlaneOptions, 'attest' | 'decide'>;

/** What comes of a request. Never rejects. */
export async function decided({ attest, decide }: Deciders, request: CertificateRequest): Promise<Decision> {
  const { proof, attestation, identity, address } = request;
  try {
    if (proof !== 'attestation') return decide ? understood(await decide(request)) : denied('nobody decides');
    if (!attest || !attestation) return denied('nobody attests it');
    const believed = understood(await attest({ ...attestation, identity, address }));
    if (!believed.allow || !decide) return believed;
    const further = understood(await decide(request));
    if (!further.allow) return further;
    const lives = [believed.ttlMs, further.ttlMs].filter((life) => life !== undefined);
    return { allow: true, ...(lives.length > 0 && { ttlMs: Math.min(...lives) }) };
  } catch (error) {
    return denied(messageOf(error));
  }
}

function denied(reason: string): Decision {
  return { allow: false, reason };
}

/** Plain JavaScript may answer with anything: what is no decision admits nobody. */
function understood(answer: unknown): Decision {
  const { allow, reason, ttlMs } = Object(answer) as Record<string, unknown>;
  if (allow === false) return denied(typeof reason === 'string' ? reason : 'for no reason');
  if (allow !== true) return denied('what was answered is no decision');
  if (ttlMs === undefined) return { allow };
  const whole = typeof ttlMs === 'number' ? Math.ceil(ttlMs) : Number.NaN;
  if (!Number.isSafeInteger(whole) || whole <= 0)
    return denied(`ttlMs: expected milliseconds, received ${String(ttlMs)}`);
  return { allow, ttlMs: whole };
}
