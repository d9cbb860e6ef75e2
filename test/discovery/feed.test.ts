// What do sources do to the endpoints of a service: when they speak, fail, come back, or are others?

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { Feed } from '../../src/discovery/feed.js';
import { staticSource } from '../../src/discovery/static.js';
import type { EndpointChange, EndpointLike, Source } from '../../src/discovery/types.js';
import { until } from '../support/wait.js';
import { Followed } from './support.js';

const [A, B, C] = ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1'] as const;

/** Something that is said and is no change. */
class NoChange {
  constructor(readonly said: unknown) {}
}

/** A source that says what a test hands it; each beginning is one more list of what to say. */
class Hand {
  begun = 0;
  readonly #waiting: (EndpointChange | Error | NoChange)[] = [];
  #wake: () => void = () => {};

  /** Also what no source that is typed can say. */
  say(...changes: (EndpointChange | Error | NoChange)[]): void {
    this.#waiting.push(...changes);
    this.#wake();
  }

  readonly source: Source = async function* (this: Hand, signal: AbortSignal) {
    this.begun += 1;
    void once(signal, 'abort').then(() => this.#wake());
    while (!signal.aborted) {
      const next = this.#waiting.shift();
      if (next instanceof Error) throw next;
      if (next !== undefined) yield next instanceof NoChange ? (next.said as EndpointChange) : next;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }.bind(this) as Source;
}

test('changes that come close together are told once', async (t) => {
  const [one, two] = [new Hand(), new Hand()];
  // Close together is also what a process says that stands still for a moment.
  const followed = new Followed(t, [one.source, two.source], undefined, 1000);
  one.say({ set: [A] }, { add: B });
  two.say({ set: [C] });
  await followed.has(A, B, C);
  await until('they are told', () => followed.told.length > 0);
  t.deepEqual(followed.told, [[A, B, C]]);
  // What undoes itself is nothing new.
  one.say({ remove: A }, { add: A });
  one.say({ remove: B });
  await until('the next change is told', () => followed.told.length > 1);
  t.deepEqual(followed.told.slice(1), [[A, C]]);
});

test('what is said after a while of silence is taken in one turn', async (t) => {
  const hand = new Hand();
  const followed = new Followed(t, [hand.source]);
  hand.say({ set: [A] });
  await followed.has(A);
  let number = 0;
  // A process that stands still amid the changes gives others their turn.
  await until('two changes in one turn', async () => {
    number += 1;
    const next = `10.1.0.1:${number}`;
    await sleep(20);
    hand.say({ add: next }, { remove: next });
    await new Promise(setImmediate);
    const isWhole = !followed.addresses().includes(next);
    await followed.has(A);
    return isWhole;
  });
});

test('what is no async generator is told in the words of whoever wrote it', async (t) => {
  const given: [source: () => unknown, shown: RegExp][] = [
    [() => [A], /received \[ '10\.0\.0\.1:1' \]$/],
    [
      function* () {
        yield { set: [A] };
      },
      /received Object \[Generator\] \{\}$/,
    ],
    [() => undefined, /received undefined$/],
    // Of which nobody else would hear.
    [() => Promise.reject(new Error('in vain')), /received Promise \{/],
    [() => ({ text: 'x'.repeat(1000) }), /received \{ text: 'x{60,100}$/],
  ];
  for (const [source, shown] of given) {
    const followed = new Followed(t, [source as Source]);
    const { reason = '' } = await followed.happened(
      'sourceFailed',
      /^expected an async generator, received /,
    );
    t.regex(reason, shown);
  }
});

test('a source that comes back takes nothing away before it has said all there is', async (t) => {
  const hand = new Hand();
  const followed = new Followed(t, [hand.source]);
  hand.say({ set: [A, B] });
  await followed.has(A, B);
  hand.say(new Error('the connection was cut'));
  await followed.happened('sourceFailed', /cut/);
  t.deepEqual(followed.addresses(), [A, B]);
  const [status] = followed.directory.status();
  t.like(status, { state: 'failing', endpoints: 2, problem: 'the connection was cut' });
  t.true((status?.failingSinceMs ?? 0) > 0 && (status?.saidAtMs ?? 0) > 0);
  await until('another beginning', () => hand.begun === 2);
  hand.say({ add: C });
  await followed.has(A, B, C);
  hand.say({ add: { address: B, weight: 2 } }, { complete: true });
  await followed.has(B, C);
  t.like(followed.directory.status()[0], { state: 'live', restarts: 1, problem: null });
  hand.say({ remove: B });
  await followed.has(C);
  t.false(followed.told.some((list) => list.length === 0));
});

test('a change with something that is no endpoint is refused whole, and told', async (t) => {
  const hand = new Hand();
  const followed = new Followed(t, [hand.source]);
  hand.say({ set: [A] });
  await followed.has(A);
  for (const [wrong, reason] of [
    [['nowhere'], /address: expected the address of one server.*received "nowhere"/],
    [['0.0.0.0:80'], /received "0\.0\.0\.0:80"/],
    [['localhost:80'], /received "localhost:80"/],
    [[{ address: B, weight: 0 }], /weight: expected a whole number, 1 to 1000, received 0/],
    [[{ address: B, identity: 'basket' }], /identity: expected a SPIFFE id/],
    [[{ address: B, ports: [0] }], /^set\[1\]\.ports: expected a list of ports/],
    [[C, { address: B, wieght: 3 }], /^set\[2\]\.wieght: unknown key wieght; did you mean weight\?$/],
    [[{ address: B, port: 80 }], /^set\[1\]\.port: unknown key port; did you mean ports\?$/],
    [
      [{ address: B, zone: 'a' }],
      /zone: unknown key zone; expected one of address, weight, draining, ports, identity$/,
    ],
    [
      Array.from({ length: 10_000 }, (_, at) => `10.1.0.1:${at + 1}`),
      /10001 endpoints: expected at most 10000/,
    ],
  ] as [EndpointLike[], RegExp][]) {
    hand.say({ set: [B, ...wrong] });
    await followed.happened('sourceProblem', reason);
    t.deepEqual(followed.addresses(), [A]);
  }
  hand.say(new NoChange({ add: { address: B, wieght: 3 } }));
  await followed.happened('sourceProblem', /^add\.wieght: unknown key wieght; did you mean weight\?$/);
  t.deepEqual(followed.addresses(), [A]);
  t.is(hand.begun, 1);
  hand.say({ set: [B] });
  await followed.has(B);
  t.is(followed.directory.status()[0]?.state, 'live');
});

test('what is no change at all is refused, also from one that was begun anew', async (t) => {
  const hand = new Hand();
  const followed = new Followed(t, [hand.source]);
  hand.say({ set: [A, B] }, new Error('cut'));
  await followed.happened('sourceFailed', /cut/);
  await until('another beginning', () => hand.begun === 2);
  const circle: { self?: unknown } = {};
  circle.self = circle;
  for (const [wrong, reason] of [
    [{ endpoints: [A] }, /^expected \{ set \}, .*received \{"endpoints":\["10\.0\.0\.1:1"\]\}$/],
    [{}, /received \{\}$/],
    [{ complete: false }, /^complete: expected true, received false$/],
    [{ complete: 1 }, /^complete: expected true, received 1$/],
    [null, /received null$/],
    ['10.0.0.1:1', /received "10\.0\.0\.1:1"$/],
    [[A], /received \["10\.0\.0\.1:1"\]$/],
    [{ set: [A], complete: true }, /received \{"set":\["10\.0\.0\.1:1"\],"complete":true\}$/],
    [{ set: undefined, problem: undefined }, /received \{\}$/],
    [circle, /received a object$/],
    [{ set: A }, /^set: expected a list of endpoints/],
    [{ remove: 'nowhere' }, /^remove\.address: expected the address of one server/],
    [
      {
        get set(): never {
          throw new Error('nothing to get');
        },
      },
      /^nothing to get$/,
    ],
    // What has no text of its own.
    [{ problem: Object.create(null) as unknown }, /Object: null prototype/],
  ] as [unknown, RegExp][]) {
    hand.say(new NoChange(wrong));
    await followed.happened('sourceProblem', reason);
    t.deepEqual(followed.addresses(), [A, B], String(reason));
  }
  t.is(hand.begun, 2);
  t.is(followed.directory.status()[0]?.state, 'failing');
  hand.say(new NoChange({ add: C, set: undefined }), { complete: true });
  await followed.has(C);
  t.like(followed.directory.status()[0], { state: 'live', problem: null });
});

test('an endpoint goes however its address is written', async (t) => {
  const hand = new Hand();
  const followed = new Followed(t, [hand.source]);
  hand.say({ set: ['[0:0::1]:80', A] });
  await followed.has(A, '[::1]:80');
  hand.say({ remove: '[0:0:0::1]:80' });
  await followed.has(A);
});

test('several sources are one list: the first that names an address says more of it, and any may drain it', async (t) => {
  const followed = new Followed(t, [
    staticSource([{ address: A, weight: 3 }, B, '[0:0::1]:80']),
    staticSource([{ address: A, weight: 5 }, { address: B, draining: true }, C, '[::1]:80']),
  ]);
  await followed.has(A, B, C, '[::1]:80');
  t.deepEqual(followed.directory.endpoints('basket').slice(0, 2), [
    { address: A, weight: 3 },
    { address: B, draining: true },
  ]);
});

test('another source of a service takes over when it has said all there is', async (t) => {
  const hand = new Hand();
  const followed = new Followed(t, [staticSource([A])]);
  await followed.has(A);
  followed.apply([{ name: 'other', key: 1, source: hand.source }]);
  hand.say({ add: B });
  await followed.has(A, B);
  hand.say({ complete: true });
  await followed.has(B);
  followed.apply([]);
  await followed.has();
});

test('what was known serves until a source has spoken', async (t) => {
  const hand = new Hand();
  const followed = new Followed(t, [hand.source], {
    basket: { 'source 0': [{ address: A }, { address: B }] },
  });
  t.deepEqual(followed.addresses(), [A, B]);
  hand.say(new Error('nobody there'));
  await followed.happened('sourceFailed');
  t.deepEqual(followed.addresses(), [A, B]);
  hand.say({ set: [C] });
  await followed.has(C);
  t.deepEqual(followed.directory.snapshot(), { basket: { 'source 0': [{ address: C }] } });
});

test('one that returns is asked again, and keeps what it said', async (t) => {
  let asked = 0;
  const followed = new Followed(t, [
    async function* () {
      asked += 1;
      yield { set: [asked === 1 ? A : B] };
    },
  ]);
  await followed.has(A);
  await followed.has(B);
  t.deepEqual(followed.events, []);
});

test('an iterator that gives no promises ends as any other does, and hides no reason', async (t) => {
  let asked = 0;
  const byHand = (last: () => unknown): Source => {
    const begin = () => {
      const list: unknown[] = [{ done: false, value: { set: [A] } }];
      return { next: () => list.shift() ?? last(), return: () => undefined };
    };
    return () => ({ [Symbol.asyncIterator]: begin }) as unknown as AsyncIterable<EndpointChange>;
  };
  const inOrder = byHand(() => {
    asked += 1;
    return { done: true, value: undefined };
  });
  const withReason = byHand(() => {
    throw new Error('the registry is gone');
  });
  const followed = new Followed(t, [inOrder, withReason]);
  await followed.happened('sourceFailed', /^the registry is gone$/);
  await until('it is asked again', () => asked > 1);
  t.deepEqual(followed.addresses(), [A]);
  for (const { kind, source, reason } of followed.events) {
    t.is(source, 'source 1');
    if (kind === 'sourceFailed') t.is(reason, 'the registry is gone');
  }
});

test('one that hangs is given up and begun anew, with pauses that grow', async (t) => {
  const pauses: number[] = [];
  let begun = 0;
  const feed = new Feed({
    service: 'basket',
    source: {
      name: 'hangs',
      key: 1,
      source: async function* () {
        begun += 1;
        await new Promise(() => {});
        yield { complete: true };
      },
    },
    changed: () => {},
    tell: ({ retryMs = 0, reason }) => {
      t.is(reason, 'it said nothing for 1 ms');
      pauses.push(retryMs);
    },
    random: () => 0,
    silenceMs: 1,
  });
  await until('three beginnings', () => begun === 3);
  await feed.stop();
  t.deepEqual(pauses.slice(0, 2), [125, 250]);
});

test('one that never waits keeps nobody else from going on, and ends when it is told to', async (t) => {
  const many = Array.from({ length: 10_000 }, (_, at) => `10.1.0.1:${at + 1}`);
  for (const [enough, ...changes] of [
    [1000, { set: [A] }, { add: B }],
    [20, { set: many }, { set: [A, B] }],
    [1000, { problem: 'one' }, { problem: 'one' }],
  ] as [number, ...EndpointChange[]][]) {
    let said = 0;
    const followed = new Followed(t, [
      async function* () {
        for (;;) {
          said += 1;
          yield changes[said % 2] as EndpointChange;
        }
      },
    ]);
    await until('many changes', () => said > enough);
    await followed.directory.close();
    const last = said;
    await new Promise(setImmediate);
    t.is(said, last);
    t.deepEqual(followed.addresses(), []);
  }
});
