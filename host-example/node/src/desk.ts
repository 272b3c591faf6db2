import type { Consumed, Held } from "../build/component/interfaces/thread-budget-registry-types.js";
import { isRefusal, type Instance } from "./instance.js";
import type { Hold, HoldName, Kept, KeyConflict, Opening, Settle } from "./policy.js";
import { instanceOf, type Registry } from "./registry.js";

/** How many keys are remembered, the latest, and how long, in milliseconds. */
const MOST_KEYS = 1 << 16;
const LIFETIME = 24 * 60 * 60 * 1_000;

/** The most holds that stay at a time. One more is charged at once. */
const MOST_STAYS = 1 << 14;

interface Key {
  /** The hash of the body that it was claimed for. */
  body: string;
  since: number;
  isInFlight: boolean;
}

/**
 * A registry, as exchanges use it: budgets, and what exchanges have in common beside those, idempotency keys and holds
 * that stay when their exchange is over. What the contract refuses is thrown as it is there.
 */
export class Desk {
  readonly #instance: Instance;
  /** In the order in which they were first claimed. */
  readonly #keys = new Map<string, Key>();
  /** By the provider's names of the responses: what stays, and until when. */
  readonly #stays = new Map<string, { kept: Kept; until: number }>();

  constructor(registry: Registry) {
    this.#instance = instanceOf(registry);
  }

  /** Open threads and hold, or change what is held. */
  hold(asked: Hold): Held {
    const { open, threadId, requestId, promptTokens, completionTokens, leastCompletionTokens } = asked;
    for (const opening of open) this.#open(opening);
    return this.#instance.raw(({ registry }) =>
      registry.hold(threadId, requestId, promptTokens, completionTokens, leastCompletionTokens, 0n, 0n),
    );
  }

  /**
   * Open a thread, unless it exists. One that exists below another parent is not the one that is meant; its limit may be
   * another one since somebody has set it.
   */
  #open({ threadId, options }: Opening): void {
    this.#instance.raw(({ registry }) => {
      const isThere = registry.hasBudget(threadId);
      if (isThere && options.parent === undefined) return;
      const { parent } = options;
      const handle = registry.openThread(threadId, isThere && parent !== undefined ? { parent } : options);
      handle[Symbol.dispose]();
    });
  }

  /** Count what was used in the place of what is held. */
  settle({ threadId, requestId, promptTokens, completionTokens, remember }: Settle): Consumed {
    return this.#instance.raw(({ registry }) => registry.settle(threadId, requestId, promptTokens, completionTokens, remember));
  }

  /** Let go of what is held. A registry that is lost has lost that, too. */
  release({ threadId, requestId }: HoldName): void {
    if (!this.#instance.isLost) this.#instance.raw(({ registry }) => registry.release(threadId, requestId));
  }

  /** The agent has these warnings. */
  acknowledge(threadId: string, warnings: { thresholdPercent: number; maxTokens: bigint }[]): void {
    if (!this.#instance.isLost) this.#instance.raw(({ registry }) => registry.acknowledgeWarnings(threadId, warnings));
  }

  /** Claim an idempotency key for a request with a body of that hash, until it is given back; or say why not. */
  claim(name: string, body: string): KeyConflict | undefined {
    const now = performance.now();
    this.#forget(now);
    let key = this.#keys.get(name);
    if (!key) this.#keys.set(name, (key = { body, since: now, isInFlight: false }));
    if (key.body !== body) return "other-body";
    if (key.isInFlight) return "in-flight";
    key.isInFlight = true;
    return undefined;
  }

  /** The exchange that claimed the key is over. */
  giveBack(name: string): void {
    const key = this.#keys.get(name);
    if (key) key.isInFlight = false;
  }

  /** Forget keys that are old, and the oldest of too many, but none that is in flight. */
  #forget(now: number): void {
    for (const [name, key] of this.#keys) {
      if (this.#keys.size < MOST_KEYS && now - key.since < LIFETIME) return;
      this.#keys.delete(name);
      if (!key.isInFlight) continue;
      if (key.since === now) return;
      this.#keys.set(name, { ...key, since: now });
    }
  }

  /** A hold stays, as nobody's own, until its time is over. Where it cannot, or another of its name cannot, it is charged. */
  keep(kept: Kept): void {
    const before = this.#stays.get(kept.name);
    if (before) this.#charge(before.kept);
    this.#stays.delete(kept.name);
    if (this.#stays.size < MOST_STAYS) this.#stays.set(kept.name, { kept, until: performance.now() + Number(kept.forMs) });
    else this.#charge(kept);
  }

  /** What was kept by that name. */
  recall(name: string): Kept | undefined {
    return this.#stays.get(name)?.kept;
  }

  /** An exchange has ended the hold that it recalled. */
  ended(kept: Kept): void {
    if (this.recall(kept.name) === kept) this.#stays.delete(kept.name);
  }

  /** Charge the holds whose time is over, as whoever begins an exchange does. */
  chargeOverdue(): void {
    const now = performance.now();
    for (const [name, { kept, until }] of this.#stays) {
      if (until > now) continue;
      this.#stays.delete(name);
      this.#charge(kept);
    }
  }

  #charge({ hold, promptTokens, completionTokens }: Kept): void {
    try {
      this.settle({ ...hold, promptTokens, completionTokens, remember: false });
    } catch (error) {
      // Its thread may be gone, and all its ancestors; or the registry.
      if (!isRefusal(error) && !this.#instance.isLost) throw error;
    }
  }
}

const desks = new WeakMap<Registry, Desk>();

/** The registry's. */
export function deskOf(registry: Registry): Desk {
  let desk = desks.get(registry);
  if (!desk) desks.set(registry, (desk = new Desk(registry)));
  return desk;
}
