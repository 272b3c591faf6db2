/// <reference lib="esnext.disposable" preserve="true" />
import type * as wit from "../build/component/interfaces/thread-budget-registry-registry.js";
import type { Instance } from "./instance.js";
import { liftConsumed, liftCrossed, liftUsage } from "./lift.js";
import { lowerThresholds } from "./lower.js";
import { liftTokens, lowerTokens, type Tokens } from "./tokens.js";
import type { Consumed, Threshold, ThresholdCrossed, Usage } from "./types.js";

/** A resource of the component. jco frees it when it is collected without having been disposed of. */
class Handle<R extends object> {
  readonly #instance: Instance;
  readonly #what: string;
  #resource: R | undefined;

  constructor(instance: Instance, what: string, resource: R) {
    this.#instance = instance;
    this.#what = what;
    this.#resource = resource;
  }

  use<T>(use: (resource: R) => T): T {
    const resource = this.#alive();
    return this.#instance.call(() => use(resource));
  }

  /** Use it for the last time. */
  take<T>(use: (resource: R, exports: typeof wit) => T): T {
    const resource = this.#alive();
    this.#resource = undefined;
    return this.#instance.call(({ registry }) => use(resource, registry));
  }

  free(): void {
    const resource = this.#resource;
    this.#resource = undefined;
    // What a lost instance holds goes with it.
    if (resource && !this.#instance.isLost) this.#instance.call(() => (resource as R & Disposable)[Symbol.dispose]());
  }

  #alive(): R {
    if (this.#resource) return this.#resource;
    throw new TypeError(`the ${this.#what} was given back already`);
  }
}

/**
 * A live view of one thread's budget: it sees what others consume and they see what it consumes. After
 * `resetThread`, `cleanupThread` or `clear` it goes on counting on its own, detached from the registry.
 *
 * `using`, or `[Symbol.dispose]()`, frees it; one that is forgotten is freed when it is collected.
 */
export class ThreadBudget implements Disposable {
  readonly #handle: Handle<wit.ThreadBudget>;

  /** @internal */
  constructor(instance: Instance, resource: wit.ThreadBudget) {
    this.#handle = new Handle(instance, "handle", resource);
  }

  /** The thread this budget was created for. */
  threadId(): string {
    return this.#handle.use((budget) => budget.threadId());
  }

  /** The usage of now. */
  usage(): Usage {
    return liftUsage(this.#handle.use((budget) => budget.usage()));
  }

  /** Not rounded; 0 when the limit is 0. Passes 100 on overshoot. */
  percentUsed(): number {
    return this.#handle.use((budget) => budget.percentUsed());
  }

  /** Whether the total has reached the limit. */
  isExhausted(): boolean {
    return this.#handle.use((budget) => budget.isExhausted());
  }

  /** What live reservations hold, of this thread and of those below it. */
  heldTokens(): Tokens {
    return liftTokens(this.#handle.use((budget) => budget.heldTokens()));
  }

  /** Whether the registry no longer counts this budget. */
  isDetached(): boolean {
    return this.#handle.use((budget) => budget.isDetached());
  }

  /** Whether the estimate fits, here and in every ancestor. Yes to an estimate of 0 at exactly the limit. */
  canConsume(estimatedTokens: Tokens): boolean {
    const estimated = lowerTokens(estimatedTokens, "estimatedTokens");
    return this.#handle.use((budget) => budget.canConsume(estimated));
  }

  /** Record what an LLM call used. */
  consume(promptTokens: Tokens, completionTokens: Tokens): Consumed {
    const prompt = lowerTokens(promptTokens, "promptTokens");
    const completion = lowerTokens(completionTokens, "completionTokens");
    return liftConsumed(this.#handle.use((budget) => budget.consume(prompt, completion)));
  }

  /** The thresholds crossed so far, percent, ascending. */
  triggeredThresholds(): number[] {
    return [...this.#handle.use((budget) => budget.triggeredThresholds())];
  }

  /**
   * Report which of these thresholds are reached and were not reported before, and mark them as reported.
   * Of two with the same percent the last counts; one outside 1 to 100 is never reached.
   */
  checkThresholds(thresholds: readonly Threshold[]): ThresholdCrossed[] {
    const lowered = lowerThresholds(thresholds);
    return this.#handle.use((budget) => budget.checkThresholds(lowered)).map(liftCrossed);
  }

  [Symbol.dispose](): void {
    this.#handle.free();
  }
}

/**
 * Tokens held for a request in flight, until `commit` or `release`. `using` releases what was not
 * committed; one that is forgotten is released when it is collected, which may be late.
 */
export class Reservation implements Disposable {
  readonly #handle: Handle<wit.Reservation>;

  /** @internal */
  constructor(instance: Instance, resource: wit.Reservation) {
    this.#handle = new Handle(instance, "reservation", resource);
  }

  /** How many it holds. */
  tokens(): Tokens {
    return liftTokens(this.#handle.use((reservation) => reservation.tokens()));
  }

  /**
   * The thread that a commit counts on: the one it was made for or, when the registry has forgotten that,
   * its nearest ancestor that is left.
   */
  chargedThread(): string | undefined {
    return this.#handle.use((reservation) => reservation.chargedThread());
  }

  /**
   * Replace the hold by what was really used, more or less. Once: the second call throws a `TypeError`.
   * Counts that are wrong throw before anything happens, and it still holds.
   */
  commit(promptTokens: Tokens, completionTokens: Tokens): Consumed {
    const prompt = lowerTokens(promptTokens, "promptTokens");
    const completion = lowerTokens(completionTokens, "completionTokens");
    return liftConsumed(
      this.#handle.take((reservation, registry) => registry.Reservation.commit(reservation, prompt, completion)),
    );
  }

  /** Give the tokens back. Nothing happens when it was committed or released before. */
  release(): void {
    this.#handle.free();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
