// A name server that answers as a test tells it: enough of RFC 1035 for A, AAAA and SRV, over UDP.

import dgram from 'node:dgram';
import { once } from 'node:events';
import { isIPv4 } from 'node:net';
import type { ExecutionContext } from 'ava';

const TYPES = { A: 1, AAAA: 28, SRV: 33 } as const;
type Type = keyof typeof TYPES;

/** One SRV record. */
export interface Service {
  priority?: number;
  weight?: number;
  port: number;
  target: string;
}

/** What is said instead of an answer. */
export type Trouble = 'no such name' | 'failure' | 'nothing';

interface Answer {
  ttl: number;
  records: Buffer[];
}

/** The server. */
export class NameServer {
  readonly #answers = new Map<string, Answer>();
  readonly #trouble = new Map<string, Trouble>();
  readonly #asked = new Map<string, number>();
  /** The numbers of the questions that came. */
  readonly #numbers = new Map<string, Set<number>>();

  private constructor(
    readonly socket: dgram.Socket,
    /** `127.0.0.1:43210` */
    readonly address: string,
  ) {
    socket.on('message', (question, from) => {
      const answer = this.#answer(question);
      if (answer) socket.send(answer, from.port, from.address);
    });
  }

  /** Answers until the test ends. */
  static async start(t: Pick<ExecutionContext, 'teardown'>): Promise<NameServer> {
    const socket = dgram.createSocket('udp4');
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    t.teardown(() => socket.close());
    return new NameServer(socket, `127.0.0.1:${socket.address().port}`);
  }

  /** From now on a host has these addresses. */
  host(name: string, addresses: readonly string[], ttl = 1): void {
    this.#trouble.delete(name);
    const records = (v4: boolean): Buffer[] => addresses.filter((ip) => isIPv4(ip) === v4).map(packed);
    this.#answers.set(`A ${name}`, { ttl, records: records(true) });
    this.#answers.set(`AAAA ${name}`, { ttl, records: records(false) });
  }

  /** From now on a service has these records. */
  service(name: string, services: readonly Service[], ttl = 1): void {
    this.#trouble.delete(name);
    const records = services.map(({ priority = 0, weight = 1, port, target }) => {
      const numbers = Buffer.alloc(6);
      [priority, weight, port].forEach((number, at) => numbers.writeUInt16BE(number, at * 2));
      return Buffer.concat([numbers, encoded(target)]);
    });
    this.#answers.set(`SRV ${name}`, { ttl, records });
  }

  /** From now on there is this trouble with a name. */
  trouble(name: string, trouble: Trouble): void {
    this.#trouble.set(name, trouble);
  }

  /** How often it was asked. */
  asked(name: string, type: Type = 'A'): number {
    return this.#asked.get(`${type} ${name}`) ?? 0;
  }

  /** The same without what was sent again because the answer took its time: such a question keeps its number. */
  questions(name: string, type: Type = 'A'): number {
    return this.#numbers.get(`${type} ${name}`)?.size ?? 0;
  }

  #answer(question: Buffer): Buffer | undefined {
    const { name, end } = decoded(question);
    const number = question.readUInt16BE(end);
    const type = (Object.keys(TYPES) as Type[]).find((each) => TYPES[each] === number) ?? 'other';
    const key = `${type} ${name}`;
    this.#asked.set(key, (this.#asked.get(key) ?? 0) + 1);
    this.#numbers.set(key, (this.#numbers.get(key) ?? new Set()).add(question.readUInt16BE(0)));
    const known = this.#answers.get(key);
    const trouble = this.#trouble.get(name) ?? (known ? undefined : 'no such name');
    if (trouble === 'nothing') return undefined;
    const code = trouble === undefined ? 0 : trouble === 'failure' ? 2 : 3;
    const { ttl, records } = (trouble === undefined && known) || { ttl: 1, records: [] };
    const head = Buffer.alloc(12);
    question.copy(head, 0, 0, 2);
    // A response, recursion asked for and given.
    head.writeUInt16BE(0x8180 | code, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(records.length, 6);
    const answers = records.map((data) => {
      const front = Buffer.alloc(12);
      // A pointer to the question's name.
      front.writeUInt16BE(0xc00c, 0);
      front.writeUInt16BE(number, 2);
      front.writeUInt16BE(1, 4);
      front.writeUInt32BE(ttl, 6);
      front.writeUInt16BE(data.length, 10);
      return Buffer.concat([front, data]);
    });
    return Buffer.concat([head, question.subarray(12, end + 4), ...answers]);
  }
}

function encoded(name: string): Buffer {
  const labels = name.split('.').filter(Boolean);
  return Buffer.concat([
    ...labels.map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0]),
  ]);
}

function decoded(message: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = message[at] ?? 0; length > 0; length = message[at] ?? 0) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: at + 1 };
}

/** An IP address as bytes. */
function packed(ip: string): Buffer {
  if (isIPv4(ip)) return Buffer.from(ip.split('.').map(Number));
  const [front = '', back = ''] = ip.split('::');
  const groups = (half: string): number[] =>
    half
      .split(':')
      .filter(Boolean)
      .map((group) => parseInt(group, 16));
  const [head, tail] = [groups(front), groups(back)];
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => 0);
  return Buffer.from([...head, ...zeros, ...tail].flatMap((group) => [group >> 8, group & 0xff]));
}
