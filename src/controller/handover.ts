/**
 * Which issuer does a control plane sign with, and how does it come to sign with another one?
 *
 *     another one ──> makes sense? ──> what serves makes room ──> the other serves
 *                                           └──> or the one before; or neither, and it is tried again
 *
 * One after the other. Sidecars find the control plane again within moments. An issuer that makes no sense, as where its
 * files are replaced one after the other, changes nothing.
 */

import { isDeepStrictEqual } from 'node:util';
import { type IssuerLife, type IssuerStanding, lifeOf, standingOf } from '../mesh/issuer-life.js';
import type { IssuerPlan } from '../mesh/services.js';
import { Turns } from '../turns.js';
import { IssuerFiles } from './issuer-files.js';
import { type Known, type Left, LeftBehind, nowhere } from './left.js';
import type { IssuerPem } from './vault.js';

/** How often it is looked when the issuer ends. */
const LOOK_MS = 60_000;

/** The control plane that is handed over. */
export interface Served {
  isClosing(): boolean;
  /** Whether it serves now. */
  isServing(): boolean;
  /** Ends what serves; what is to be taken up again. */
  leave(): Promise<Omit<Left, 'issuer'>>;
  /** Serves, and says so by `signs` as soon as it does. */
  serve(listen: readonly string[], issuer: IssuerPem | undefined, before: Known): Promise<void>;
  /** Rejects when an issuer makes no sense. */
  tries(issuer: IssuerPem): Promise<void>;
  restarted(): void;
  ends(standing: Exclude<IssuerStanding, 'good'>, life: IssuerLife): void;
  trouble(error: unknown): void;
}

/** The issuer of one control plane. */
export class IssuerHandover {
  readonly #served: Served;
  readonly #turns = new Turns();
  readonly #behind = new LeftBehind();
  readonly #given: IssuerPem | undefined;
  #files: IssuerFiles | undefined;
  #issuer: IssuerPem | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** What was told last of the issuer's end. */
  #stood: IssuerStanding = 'good';

  /** `given` is the one that the host has. */
  constructor(served: Served, given: IssuerPem | undefined) {
    this.#served = served;
    this.#given = given;
  }

  /** The operator's, where there is one: the host's, or else the one whose files the mesh file names. */
  async operators(plan: IssuerPlan | undefined): Promise<IssuerPem | undefined> {
    if (this.#given || !plan) return this.#given;
    this.#files = new IssuerFiles(plan, {
      serving: () => (this.#served.isServing() ? this.#issuer : undefined),
      served: () => this.#behind.well(),
      renewed: (now) => this.#renewSoon(now),
      failed: (error) => this.#failed(error),
    });
    return this.#files.issuer();
  }

  /** Whether it is the operator's. */
  get isGiven(): boolean {
    return (this.#given ?? this.#files) !== undefined;
  }

  /** The one that signs, unless it was made by the core. */
  get issuer(): IssuerPem | undefined {
    return this.#issuer;
  }

  /** When the operator's ends; absent where there is none. */
  get life(): IssuerLife | undefined {
    return this.isGiven && this.#issuer ? lifeOf(this.#issuer.chain) : undefined;
  }

  /** Every other issuer that came serves, or is known to make no sense. */
  get settled(): Promise<unknown> {
    return this.#turns.settled;
  }

  /** Another control plane serves, which signs with this one. */
  signs(issuer: IssuerPem | undefined): void {
    this.#issuer = issuer;
  }

  /** Looks again and again when the issuer ends, which keeps the process alive, too. */
  begin(): void {
    this.#timer = setInterval(() => this.look(), LOOK_MS);
  }

  /** Looks whether the issuer's files are others. */
  follow(): void {
    this.#files?.follow();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#behind.end();
    this.#files?.close();
  }

  /** Says once when the operator's ends soon, and when it has ended. */
  look(): void {
    const { life } = this;
    const stands = life ? standingOf(life, Date.now()) : 'good';
    if (life && stands !== 'good' && stands !== this.#stood) this.#served.ends(stands, life);
    this.#stood = stands;
  }

  /** One after the other: who asks for something meanwhile waits. Rejects when the issuer does not serve. */
  renewed(issuer: IssuerPem): Promise<void> {
    return this.#turns.run(() => this.#serveAgain(issuer));
  }

  /** The same where nobody waits for it: what went wrong is told, once while it goes on. */
  #renewSoon(issuer: IssuerPem): void {
    this.renewed(issuer).then(
      () => this.#behind.well(),
      (error: unknown) => this.#failed(error),
    );
  }

  #failed(error: unknown): void {
    if (this.#behind.isNews(error)) this.#served.trouble(error);
  }

  async #serveAgain(issuer: IssuerPem): Promise<void> {
    const served = this.#served;
    if (served.isClosing() || (served.isServing() && isDeepStrictEqual(issuer, this.#issuer))) return;
    if (!this.#behind.left) await served.tries(issuer);
    if (served.isClosing()) return;
    const left = this.#behind.left ?? { ...(await served.leave()), issuer: this.#issuer };
    if (served.isClosing()) return;
    try {
      await served.serve(left.addresses, issuer, left.known);
    } catch (error) {
      if (served.isClosing() || served.isServing()) throw error;
      await served.serve(left.addresses, left.issuer, left.known).catch((cause: unknown) => {
        throw served.isClosing() || served.isServing() ? cause : nowhere(error, cause);
      });
      throw error;
    } finally {
      if (!served.isClosing()) this.#stands(left, issuer);
    }
  }

  /** Either it serves, or it tries again: with what is in the issuer's files then, and with the one before. */
  #stands(left: Left, issuer: IssuerPem): void {
    if (this.#served.isServing()) {
      this.#behind.end();
      this.#served.restarted();
      this.look();
      return;
    }
    this.#behind.keep(left, async () => {
      const now = await this.#files?.issuer().catch(() => undefined);
      this.#renewSoon(now ?? issuer);
    });
  }
}
