/// <reference lib="esnext.disposable" preserve="true" />
import { InstanceLostError, UnknownHoldError } from "./errors.js";
import type { Registry } from "./registry.js";
import type { Tokens } from "./tokens.js";
import type { Consumed, Held } from "./types.js";

export interface Hold extends Held {}

/**
 * What a hold was granted, where its thread stands, and a guard that ends it: `using`, or `[Symbol.dispose]()` in a
 * `finally`, does so on every way out of a block. A request that was not sent is released. One that was sent and got
 * no bill is settled as lost: at its prompt, and at what was held of its completion before that grew last, since the
 * provider may have billed it. Should the bill come after all, `registry.settle` adds what is more.
 *
 * One that is forgotten holds on: it is data, which whoever knows its thread and request may end.
 */
export class Hold implements Disposable {
  readonly #registry: Registry;
  readonly #threadId: string;
  readonly #requestId: string;
  readonly #promptTokens: Tokens;
  readonly #hold: (completionTokens: Tokens, leastCompletionTokens: Tokens) => Held;
  /** What is charged of the completion when it is lost. */
  #lostCompletion: Tokens = 0;
  #isSent = false;
  #isOpen = true;

  /** @internal `hold` makes it, and sets it to other numbers. */
  constructor(
    registry: Registry,
    threadId: string,
    requestId: string,
    promptTokens: Tokens,
    completionTokens: Tokens,
    leastCompletionTokens: Tokens,
    hold: (completionTokens: Tokens, leastCompletionTokens: Tokens) => Held,
  ) {
    this.#registry = registry;
    this.#threadId = threadId;
    this.#requestId = requestId;
    this.#promptTokens = promptTokens;
    this.#hold = hold;
    Object.assign(this, hold(completionTokens, leastCompletionTokens));
  }

  /** Say that the request goes out now: from here on the provider may bill it. */
  sent(): void {
    this.#isSent = true;
  }

  /**
   * Hold another number of tokens for the completion, in all; `completionTokens` and the other fields say what came
   * of it. More is cut down to what is left, but not below `leastCompletionTokens`.
   * @throws {BudgetExhaustedError} The old hold stays.
   */
  grow(completionTokens: Tokens, leastCompletionTokens: Tokens = completionTokens): void {
    const before = this.completionTokens;
    Object.assign(this, this.#hold(completionTokens, leastCompletionTokens));
    const now = this.completionTokens;
    if (now > before) this.#lostCompletion = before;
    else if (now < this.#lostCompletion) this.#lostCompletion = now;
  }

  /** Replace the hold by what was used, see `registry.settle`. Counts that are wrong throw, and it still holds. */
  settle(promptTokens: Tokens, completionTokens: Tokens, remember = false): Consumed {
    const consumed = this.#registry.settle(this.#threadId, this.#requestId, promptTokens, completionTokens, remember);
    this.#isOpen = false;
    return consumed;
  }

  /** Give the tokens back: nothing was sent, or nothing was billed. Says whether there were any. */
  release(): boolean {
    this.#isOpen = false;
    return this.#registry.release(this.#threadId, this.#requestId);
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      if (this.#isSent) this.#registry.settleLost(this.#threadId, this.#requestId, this.#promptTokens, this.#lostCompletion);
      else this.#registry.release(this.#threadId, this.#requestId);
    } catch (error) {
      // Somebody else has ended it, or it went with its instance.
      if (!(error instanceof UnknownHoldError || error instanceof InstanceLostError)) throw error;
    }
  }
}
