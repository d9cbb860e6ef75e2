/** How long does an issuer of the operator's still sign? Nobody here renews it, so whoever does has to be told in time. */

import { X509Certificate } from 'node:crypto';

/** From when to when it can sign, in milliseconds since 1970. */
export interface IssuerLife {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** `ending`: a fifth of its life or less is left, in which certificates get shorter and shorter lives. */
export type IssuerStanding = 'good' | 'ending' | 'ended';

const ENDING_SHARE = 0.2;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The life of the certificate that ends first, of a chain in PEM. */
export function lifeOf(chain: string): IssuerLife | undefined {
  const lives = (chain.match(CERTIFICATE) ?? []).map((pem) => {
    const { validFrom, validTo } = new X509Certificate(pem);
    return { notBeforeMs: Date.parse(validFrom), notAfterMs: Date.parse(validTo) };
  });
  return lives.toSorted((a, b) => a.notAfterMs - b.notAfterMs)[0];
}

export function standingOf({ notBeforeMs, notAfterMs }: IssuerLife, atMs: number): IssuerStanding {
  if (atMs >= notAfterMs) return 'ended';
  return notAfterMs - atMs <= (notAfterMs - notBeforeMs) * ENDING_SHARE ? 'ending' : 'good';
}
