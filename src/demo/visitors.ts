/** The shop's visitors: a modest client that asks for a page now and then, and counts nothing: the sidecars do. */

import http from 'node:http';

/** How often somebody asks. */
const ASK_MS = 20;
/** Nobody queues longer than this. */
const MOST_WAITING = 32;

export class Visitors {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: MOST_WAITING });
  readonly #asking: NodeJS.Timeout;
  #waiting = 0;

  constructor(page: string) {
    this.#asking = setInterval(() => this.#visit(page), ASK_MS);
  }

  #visit(page: string): void {
    if (this.#waiting === MOST_WAITING) return;
    this.#waiting += 1;
    const asked = http.get(page, { agent: this.#agent }, (response) => response.resume());
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
