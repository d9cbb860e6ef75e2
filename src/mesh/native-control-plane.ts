/** The control plane of the core, behind the face that a mesh wants. */

import { meshError } from '../failures.js';
import { InputError } from '../mesh-error.js';
import { type NativeController, native } from '../native.js';
import type {
  CertificateRequest,
  ControlEvent,
  ControlPlane,
  ControlPlaneOptions,
  Edge,
  Elsewhere,
  Sidecar,
  StartControlPlane,
} from './control-plane.js';
import { type Deciders, decided } from './decisions.js';

/** Starts the core's control plane in this process. */
export const startControlPlane: StartControlPlane = async (options) => new CoreControlPlane(options);

/** The core's errors as this package's. */
function explained<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw meshError(error, { explain: (issues) => new InputError(issues) });
  }
}

class CoreControlPlane implements ControlPlane {
  readonly #native: NativeController;
  readonly #deciders: Deciders;
  readonly #onEvent: ControlPlaneOptions['onEvent'];
  readonly addresses: readonly string[];
  readonly plaintextXds: readonly string[];

  constructor({ onEvent, attest, decide, ...settings }: ControlPlaneOptions) {
    this.#onEvent = onEvent;
    this.#deciders = { ...(attest && { attest }), ...(decide && { decide }) };
    const { NativeController: Core } = native();
    const asks = { decides: decide !== undefined, attests: attest !== undefined };
    const text = JSON.stringify({ ...settings, ...asks });
    this.#native = explained(() => new Core(text, (event) => this.#told(event)));
    this.addresses = explained(() => this.#native.addresses());
    this.plaintextXds = explained(() => this.#native.plaintextXds());
  }

  apply(batch: object): void {
    explained(() => this.#native.apply(JSON.stringify(batch)));
  }

  issueToken(identity: string, { uses, ttlMs }: { uses: number; ttlMs: number }): string {
    return explained(() => this.#native.issueToken(identity, uses, ttlMs));
  }

  revoke(whom: string): void {
    explained(() => this.#native.revoke(whom));
  }

  allow(whom: string): boolean {
    return explained(() => this.#native.allow(whom));
  }

  revoked(): readonly string[] {
    return explained(() => this.#native.revoked());
  }

  knowsRevoked(knows: boolean): void {
    explained(() => this.#native.knowsRevoked(knows));
  }

  elsewhere(change: Elsewhere): void {
    explained(() => this.#native.elsewhere(JSON.stringify(change)));
  }

  rotateIssuer(): void {
    explained(() => this.#native.rotateIssuer());
  }

  rotateRoot(): void {
    explained(() => this.#native.rotateRoot());
  }

  bundle(): string {
    return explained(() => this.#native.bundle());
  }

  // What the core writes has these shapes: crates/controller says so.
  sidecars(): Sidecar[] {
    return JSON.parse(explained(() => this.#native.sidecars())) as Sidecar[];
  }

  edges(): Edge[] {
    return JSON.parse(explained(() => this.#native.edges())) as Edge[];
  }

  async close(): Promise<string | undefined> {
    return (await this.#native.close()) ?? undefined;
  }

  #told(text: string): void {
    const event = JSON.parse(text) as ControlEvent;
    if (event.kind === 'decide') void this.#answer(event);
    else this.#onEvent(event);
  }

  async #answer(event: ControlEvent): Promise<void> {
    const { number, identity, proof, attestation, evidence, token, address } = event;
    const decision = await decided(this.#deciders, {
      identity: String(identity),
      proof: proof as CertificateRequest['proof'],
      ...(attestation !== null && {
        attestation: { kind: String(attestation), evidence: Buffer.from(evidence as number[]) },
      }),
      ...(token !== null && { otherToken: String(token) }),
      address: String(address),
    });
    this.#native.decided(Number(number), JSON.stringify(decision));
  }
}
