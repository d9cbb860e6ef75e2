// Is each reason of the closed list seen from the outside by a test?

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { files, root } from './support.js';

/**
 * Caused by nothing but a defect of the core: what leads to a cluster that is not known is refused before it is in force,
 * and who began before an update goes on with the clusters of that time.
 */
const UNSEEN = new Set(['internal', 'cluster_unknown']);

/** The places where a test says which reason it expects; that it names one is not enough. */
const expectations = (token: string): RegExp[] => [
  // A member, a label of a metric, a parameter of `proxy-status`: reason: 'x', reason="x", details: 'x'
  new RegExp(`\\b(reason|details)(: |=)['"]${token}['":]`),
  // `proxy-status` taken apart, or as a pattern: .details, 'x'
  new RegExp(`(\\bdetails\\b.*, '|proxy-status\\b.*[^a-z_])${token}['/"]`),
  // What was counted: closedBy('x'), closedBy['x']
  new RegExp(`\\b(closedBy|endedBy|connectFailures)[([]([^)\\]]*\\W)?'${token}'`),
  // A row of a table: the status, the error of `proxy-status`, the reason
  new RegExp(`\\b\\d{3},\\s*'[a-z0-9_]+',\\s*'${token}'`),
];

test('each reason is expected by a test that only sees the proxy from the outside', (t) => {
  const source = readFileSync(join(root, 'crates/model/src/errors.rs'), 'utf8');
  const reasons = [...source.matchAll(/^ {4}\w+ = "([a-z0-9_]+)", /gm)].map(([, token = '']) => token);
  t.true(reasons.length > 40);
  const isTest = /^(test\/(?!house\/).*\.ts|crates\/[^/]+\/tests\/.*\.rs)$/;
  const tests = files()
    .filter((file) => isTest.test(file))
    .map((file) => readFileSync(join(root, file), 'utf8').replaceAll(/\/\*\*[^]*?\*\/|(^|\s)\/\/.*/gm, ''))
    .join('\n');
  const isExpected = (token: string): boolean => expectations(token).some((place) => place.test(tests));
  t.deepEqual(
    reasons.filter((token) => !isExpected(token) && !UNSEEN.has(token)),
    [],
  );
});
