/** The shop's visitors: a modest client that asks for a page now and then, and counts nothing: the proxy does. */

import http from 'node:http';

/** How often somebody asks. */
const ASK_MS = 20;
/** Every so many visits look at the items alone. */
const ITEMS_EVERY = 4;
/** Nobody queues longer than this. */
const MOST_WAITING = 32;

export class Visitors {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: MOST_WAITING });
  readonly #asking: NodeJS.Timeout;
  #visits = 0;
  #waiting = 0;

  constructor(front: string) {
    const [hostname, port] = front.split(':');
    this.#asking = setInterval(() => this.#visit(hostname, port), ASK_MS);
  }

  #visit(hostname: string | undefined, port: string | undefined): void {
    if (this.#waiting === MOST_WAITING) return;
    this.#visits += 1;
    this.#waiting += 1;
    const path = this.#visits % ITEMS_EVERY === 0 ? '/items' : '/';
    const asked = http.get({ agent: this.#agent, hostname, port, path }, (response) => response.resume());
    // What fails is seen in the table.
    asked.on('error', () => {});
    asked.on('close', () => {
      this.#waiting -= 1;
    });
  }

  /** They leave; those who wait are still served. */
  stop(): void {
    clearInterval(this.#asking);
  }

  /** The last connections close. */
  close(): void {
    this.stop();
    this.#agent.destroy();
  }
}
