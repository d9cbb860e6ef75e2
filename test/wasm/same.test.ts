// Does WebAssembly decide as the native core does: on the whole corpus, on generated requests, on mistakes?

import test from 'ava';
import type { DescribedRequest } from '../../src/decision.js';
import { type Resources, checkResources, routeRequest, validateResources } from '../../src/index.js';
import type { Model } from '../../src/wasm/model.js';
import { InputError, loadModel } from '../../src/wasm/node.js';
import { corpus } from '../config/support.js';
import { SourceDocument } from '../../src/config/document.js';
import { good, nativeAnswers, pick, requests, seeded } from './support.js';

const model = await loadModel();

/** What WebAssembly says, a refusal in the native core's words. */
function route(from: Model, resources: string, request: DescribedRequest): unknown {
  try {
    return from.route(resources, request);
  } catch (error) {
    if (error instanceof InputError) return { issues: error.issues };
    throw error;
  }
}

const REQUESTS = 400;
const MUTATIONS = 300;

for (const [seed, { name, resources }] of good.entries()) {
  const json = JSON.stringify(resources);

  test(`${name}: good to both, and every request takes the same way`, (t) => {
    t.deepEqual(model.validate(json), []);
    t.deepEqual(nativeAnswers.validate(json), []);
    const kinds = new Set<string>();
    for (const request of requests(resources, REQUESTS, seed)) {
      const expected = nativeAnswers.route(json, request) as { outcome: { kind: string } };
      t.deepEqual(route(model, json, request), expected, JSON.stringify(request));
      kinds.add(expected.outcome.kind);
    }
    t.true(kinds.size > 1, `only ${[...kinds].join()}`);
  });

  test(`${name}: with random mistakes, both list the same ones`, (t) => {
    const random = seeded(1000 + seed);
    let refused = 0;
    for (let round = 0; round < MUTATIONS; round += 1) {
      const wrong = JSON.stringify(mutated(resources, random));
      const expected = nativeAnswers.validate(wrong) as unknown[];
      t.deepEqual(model.validate(wrong), expected, wrong);
      t.deepEqual(route(model, wrong, {}), nativeAnswers.route(wrong, {}), wrong);
      if (expected.length > 0) refused += 1;
    }
    t.true(refused > MUTATIONS / 4, `${refused} refused`);
  });
}

test('together the generated requests meet every outcome', (t) => {
  const kinds = good.flatMap(({ resources }, seed) =>
    requests(resources, REQUESTS, seed).map((request) => model.route(resources, request).outcome.kind),
  );
  t.deepEqual([...new Set(kinds)].toSorted(), [
    'forward',
    'redirect',
    'refused',
    'respond',
    'stream',
    'unclear',
  ]);
});

for (const { name, text } of corpus('bad')) {
  test(`bad: ${name}, read as resources, is refused with the same mistakes`, (t) => {
    for (const wrong of [text, JSON.stringify(new SourceDocument(text).value) ?? '']) {
      t.deepEqual(model.validate(wrong), nativeAnswers.validate(wrong));
      t.true(model.validate(wrong).length > 0);
    }
  });
}

test('texts that are none, and requests that are none', (t) => {
  for (const wrong of ['', '{', '[]', 'null', '"\uD800"', '\u0000', '{"listeners":{}}', '['.repeat(1000)]) {
    t.deepEqual(model.validate(wrong), nativeAnswers.validate(wrong));
  }
  for (const wrong of [{ metod: 'GET' }, { headers: { a: 1 } }, [], { url: 7 }] as DescribedRequest[]) {
    t.deepEqual(route(model, '{}', wrong), nativeAnswers.route('{}', wrong));
  }
});

test('the functions of both take the same, and refuse the same', (t) => {
  const [{ resources }] = good as [(typeof good)[0]];
  for (const given of [resources, JSON.stringify(resources), {}, 'x', null, undefined, 7] as Resources[]) {
    const mistakes = model.validate(given);
    t.deepEqual(validateResources(given), mistakes);
    t.deepEqual(checkResources(given).length >= mistakes.length, true);
  }
  for (const wrong of [undefined, null, 'x', 7, [], { url: 7 }] as DescribedRequest[]) {
    const refusal = t.throws(() => model.route(resources, wrong), { instanceOf: InputError });
    const error = t.throws(() => routeRequest(resources, wrong), { code: 'MESH_INPUT_INVALID' });
    t.deepEqual([error?.message, (error as InputError).issues], [refusal?.message, refusal?.issues]);
  }
});

/** A copy with one part taken away or put something else in its place. */
function mutated(resources: object, random: () => number): object {
  const copy = structuredClone(resources);
  const places: [parent: Record<string, unknown>, key: string][] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, child] of Object.entries(value)) {
      places.push([value as Record<string, unknown>, key]);
      visit(child);
    }
  };
  visit(copy);
  const [parent, key] = pick(random, places);
  const others = [-1, 0, 5_000_000_000, 2 ** 53, 1.5, '', 'x', '/', '(', '{a', '0s', null, true, [], {}];
  const old = parent[key];
  switch (Math.floor(random() * 4)) {
    case 0:
      delete parent[key];
      break;
    case 1:
      parent[`${key}x`] = old;
      break;
    case 2:
      parent[key] = Array.isArray(old) ? [...(old as unknown[]), ...(old as unknown[])] : [old];
      break;
    default:
      parent[key] = pick(random, others);
  }
  return copy;
}
