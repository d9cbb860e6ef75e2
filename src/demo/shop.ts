/**
 * The shop: three services in processes of their own, and the configuration of the proxy in front of and between them.
 *
 *     client ──> front ──> web ──> between ──> catalogue (2 copies, HTTP/1)
 *                                     └──────> basket    (gRPC)
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Config } from '../index.js';
import type { Announcement, Directions } from './services/service.js';

/** A service that doesn't end by itself within this time is killed. */
const END_MS = 2000;

/** One process, and where it answers. */
class Service {
  private constructor(
    readonly process: ChildProcess,
    readonly address: string,
  ) {}

  static async start(name: string, ...args: string[]): Promise<Service> {
    const file = fileURLToPath(new URL(`./services/${name}.js`, import.meta.url));
    const child = fork(file, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const ended = once(child, 'exit').then(() => {
      throw new Error(`the service ${name} ended before it answered`);
    });
    const [{ address }] = (await Promise.race([once(child, 'message'), ended])) as [Announcement];
    ended.catch(() => {});
    return new Service(child, address);
  }

  tell(directions: Directions): void {
    this.process.send(directions);
  }

  /** It ends when it is no longer connected. */
  async end(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    if (this.process.connected) this.process.disconnect();
    const late = setTimeout(() => this.process.kill('SIGKILL'), END_MS);
    await ended;
    clearTimeout(late);
  }
}

/** The services of an open shop. */
export class Shop {
  readonly #web: Service;
  readonly #catalogue: readonly Service[];
  readonly #basket: Service;

  private constructor(web: Service, catalogue: readonly Service[], basket: Service) {
    this.#web = web;
    this.#catalogue = catalogue;
    this.#basket = basket;
  }

  static async open(): Promise<Shop> {
    const [web, basket, ...catalogue] = await Promise.all([
      Service.start('web'),
      Service.start('basket'),
      Service.start('catalogue', 'a', '2'),
      Service.start('catalogue', 'b', '8'),
    ]);
    return new Shop(web, catalogue, basket);
  }

  /** What the proxy is to do for it. */
  config(front: string): Config {
    return {
      listeners: [
        {
          name: 'front',
          address: front,
          routes: [
            { name: 'shop', to: 'web', timeout: '5s' },
            { name: 'items', match: { path: '/items' }, to: 'catalogue' },
          ],
        },
        {
          name: 'between',
          address: '127.0.0.1:0',
          routes: [
            { name: 'catalogue', match: { host: 'catalogue.shop' }, to: 'catalogue' },
            { name: 'basket', match: { host: 'basket.shop', grpc: 'shop.Basket' }, to: 'basket' },
          ],
        },
      ],
      clusters: {
        web: { endpoints: [this.#web.address] },
        catalogue: { endpoints: this.#catalogue.map(({ address }) => address) },
        basket: { endpoints: [this.#basket.address], protocol: 'http2' },
      },
    };
  }

  /** Tells the services where they find each other: behind the proxy. */
  direct(mesh: string): void {
    this.#web.tell({ mesh });
  }

  async close(): Promise<void> {
    await Promise.all([this.#web, this.#basket, ...this.#catalogue].map((service) => service.end()));
  }
}
