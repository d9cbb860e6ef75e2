// What the WebAssembly tests share: the corpus as resources, and questions about them.

import type { DescribedRequest } from '../../src/decision.js';
import { type Resources, parseConfig } from '../../src/index.js';
import { native } from '../../src/native.js';
import { corpus } from '../config/support.js';

/** Every good file of the corpus, as resources. */
export const good: { name: string; resources: Resources }[] = corpus('good').map(({ name, text }) => ({
  name,
  resources: parseConfig(text, { file: `/etc/mesh/${name}` }).compiled.resources,
}));

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One of a list. */
export function pick<T>(random: () => number, list: readonly [T, ...T[]] | readonly T[]): T {
  return list[Math.floor(random() * list.length)] as T;
}

/** Every text in a value, names of fields included. */
function texts(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return [...(Array.isArray(value) ? [] : Object.keys(value)), ...Object.values(value).flatMap(texts)];
}

/** Nothing, more often than what stands beside it. */
const EMPTY = ['', '', '', '', '', ''];

/** Requests that are likely to meet something: made of the words that stand in the resources. */
export function requests(resources: Resources, count: number, seed: number): DescribedRequest[] {
  const random = seeded(seed);
  const words = texts(resources);
  // Most are such as can be sent: what can't is refused before all else.
  const tokens = words.filter((word) => /^[\w.-]+$/.test(word));
  const oneWord = (): string => pick(random, random() < 0.9 ? tokens : words);
  const { listeners, routeTables } = resources;
  const names = listeners.map(({ name }) => name);
  const ports = listeners.map(({ address }) => address.slice(address.lastIndexOf(':')));
  const hosts = [
    ...routeTables.flatMap(({ virtualHosts = [] }) => virtualHosts.flatMap((host) => host.hosts)),
    ...listeners.flatMap(({ sni = [] }) => sni.flatMap((route) => route.hosts)),
  ].map((host) => host.replace(/^\*\.?/, () => pick(random, ['a.', 'A.b.', ''])));
  const paths = words
    .filter((word) => word.startsWith('/') && !word.startsWith('/etc/'))
    .map((path) => path.replaceAll(/\{[^}]*\}/g, 'x'));
  const maybe = <T>(probability: number, value: () => T): T | undefined =>
    random() < probability ? value() : undefined;
  const path = (): string =>
    pick(random, [...paths, '/', '/nowhere']) +
    pick(random, [...EMPTY, '/x', '/a/b', '/', '//', '/../x', '/%2fx', '/%41', '/é', '/..;/', '/%zz']) +
    (maybe(0.3, () => `?${oneWord()}=${oneWord()}`) ?? '');
  const host = (): string => pick(random, [...hosts, 'unknown.test', '[::1]', '127.0.0.1', 'é.test', '']);
  return Array.from({ length: count }, () => {
    const request = {
      listener: maybe(0.7, () => pick(random, [...names, 'nobody'])),
      protocol: maybe(0.3, () => pick(random, ['http', 'grpc', 'tcp'])),
      method: maybe(0.4, () => pick(random, ['GET', 'POST', 'HEAD', 'PUT', 'OPTIONS', 'CONNECT', 'get'])),
      url: maybe(
        0.9,
        () =>
          pick(random, ['http://', 'https://', '', 'tcp://', 'ftp://']) +
          host() +
          pick(random, [...ports, ...EMPTY, ':443', ':x']) +
          path(),
      ),
      host: maybe(0.1, host),
      path: maybe(0.1, path),
      headers: maybe(0.5, () => ({
        [oneWord()]: pick(random, [oneWord(), [oneWord(), '1'], []]),
        ...maybe(0.2, () => ({ 'Content-Type': 'application/grpc+proto' })),
      })),
      sni: maybe(0.2, host),
    };
    return JSON.parse(JSON.stringify(request)) as DescribedRequest;
  });
}

/** What the native core says, from the same texts. */
export const nativeAnswers = {
  validate: (resources: string): unknown => JSON.parse(native().validate(resources)),
  route: (resources: string, request: DescribedRequest): unknown =>
    JSON.parse(native().decide(resources, JSON.stringify(request))),
};
