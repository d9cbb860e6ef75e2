/** What came on a connection, and is it over? */

import type { Socket } from 'node:net';
import { MOST_READ } from './bounds.js';

/** One connection to a target. Whatever it does to us is no error: it is what an attack is judged by. */
export class Connection {
  #received: Buffer[] = [];
  #length = 0;
  #isOver = false;
  #look: (() => void) | undefined;

  constructor(
    readonly socket: Socket,
    /** Is told of bytes before they leave. */
    readonly spend: (bytes: number) => void,
  ) {
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#length += chunk.length;
      if (this.#length > MOST_READ) socket.destroy();
      this.#look?.();
    });
    const over = (): void => {
      this.#isOver = true;
      this.#look?.();
    };
    socket.on('end', over);
    socket.on('close', over);
    // It closes then.
    socket.on('error', () => {});
  }

  /** Nothing more comes. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** All that has come. */
  get bytes(): Buffer {
    const whole = Buffer.concat(this.#received);
    this.#received = [whole];
    return whole;
  }

  /** Sends text, a character a byte, or bytes. */
  send(...pieces: readonly (string | Uint8Array)[]): void {
    for (const piece of pieces) {
      const bytes = typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece;
      this.spend(bytes.length);
      if (this.socket.writable) this.socket.write(bytes);
    }
  }

  /** The first value that `look` gives, now or when something comes or ends; undefined when none does in time. */
  async until<T>(look: () => T | undefined, ms: number): Promise<T | undefined> {
    const seen = look();
    if (seen !== undefined) return seen;
    return new Promise<T | undefined>((resolve, reject) => {
      const done = (value: T | undefined): void => {
        clearTimeout(timer);
        this.#look = undefined;
        resolve(value);
      };
      const timer = setTimeout(() => done(undefined), ms);
      this.#look = () => {
        try {
          const value = look();
          if (value !== undefined) done(value);
        } catch (error) {
          done(undefined);
          reject(error as Error);
        }
      };
    });
  }

  /** Leaves. */
  close(): void {
    this.socket.destroy();
  }
}
