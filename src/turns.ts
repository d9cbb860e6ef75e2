// How is work done one after the other that is asked for at once?

/** Does one work after the other, in the order in which they were asked for. One that fails holds up none behind it. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Does it once all before it is done, and settles as it does. An error that nobody takes is an unhandled one. */
  async run<T>(work: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return await done;
  }

  /** Resolves when all that was asked for so far is done, well or not. */
  get settled(): Promise<unknown> {
    return this.#last;
  }
}
