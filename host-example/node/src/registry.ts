import type * as wit from "../build/component/interfaces/thread-budget-registry-registry.js";
import type * as witWarnings from "../build/component/interfaces/thread-budget-registry-warnings.js";
import * as calls from "./arguments.js";
import { addCalls, type Given, type Methods } from "./calls.js";
import { Hold } from "./hold.js";
import { Instance } from "./instance.js";
import type { Parameters } from "./lower.js";
import type { Tokens } from "./tokens.js";
import type { Held, Threshold } from "./types.js";

/** What a registry starts with. */
export interface RegistryOptions {
  /** The limit of every thread that is not given one of its own; 100,000 when left out. */
  maxTokensPerThread?: Tokens | undefined;
  /** Where threads are warned; 75 `warning`, 90 `critical`, 95 `final` when left out. */
  thresholds?: readonly Threshold[] | undefined;
  /** The most threads there may be, to bound the memory; 2^32-1 when left out. */
  maxThreads?: number | undefined;
}

/** A table with every call of an interface. */
type Every<T> = Record<keyof Methods<T>, Parameters>;

export interface Calls extends Omit<Methods<typeof wit>, "hold">, Methods<typeof witWarnings> {
  // As a method, not a property that is one: so it can be overridden.
  hold(...given: Given<typeof wit.hold>): Held;
}

/** @internal The instance of a registry. */
export let instanceOf: (registry: Calls) => Instance;

/** The calls of the contract on an instance. */
export abstract class Calls {
  readonly #instance = new Instance();

  static {
    instanceOf = (registry) => registry.#instance;
    addCalls(Calls.prototype, calls.registry satisfies Every<typeof wit>, (self, name, lowered) =>
      self.#instance.call(self.#instance.exports.registry, name, lowered),
    );
    addCalls(Calls.prototype, calls.warnings satisfies Every<typeof witWarnings>, (self, name, lowered) =>
      self.#instance.call(self.#instance.exports.warnings, name, lowered),
    );
  }
}

/**
 * A registry of budgets: an instance of the component, with memory of its own. Give each tenant one, and
 * nothing is shared between them.
 *
 * Its methods are the calls of the contract. They are synchronous and take microseconds. Arguments are checked before
 * anything happens: a `TypeError` or `RangeError` changes nothing. Refusals of the contract are errors with its name
 * for them as `code`.
 */
export class Registry extends Calls {
  constructor({ maxTokensPerThread, thresholds, maxThreads }: RegistryOptions = {}) {
    super();
    if (maxTokensPerThread != null) this.configure(maxTokensPerThread);
    if (thresholds != null) this.setThresholds(thresholds);
    if (maxThreads != null) this.setMaxThreads(maxThreads);
  }

  /**
   * Check as `checkBudget` does, and hold tokens for a request, so that requests in flight cannot pass the same check
   * together. What does not fit of the completion is cut down, but not below `leastCompletionTokens`, which is all of
   * it when left out.
   *
   * ```js
   * const hold = registry.hold("agent-7", crypto.randomUUID(), 1_200, 800);
   * try {
   *   hold.sent();
   *   const { usage } = await callTheModel(messages, hold.completionTokens);
   *   hold.settle(usage.prompt_tokens, usage.completion_tokens);
   * } finally {
   *   hold[Symbol.dispose]();
   * }
   * ```
   * `holder` (who) and `deadline` (until when) are for hosts that share threads, and only handed back by `snapshot`.
   * @throws {BudgetExhaustedError} It is used up, or does not fit, here or in an ancestor.
   */
  override hold(
    threadId: string,
    requestId: string,
    promptTokens: Tokens,
    completionTokens: Tokens,
    leastCompletionTokens: Tokens = completionTokens,
    holder: Tokens = 0,
    deadline: Tokens = 0,
  ): Hold {
    return new Hold(this, threadId, requestId, promptTokens, completionTokens, leastCompletionTokens, (completion, least) =>
      super.hold(threadId, requestId, promptTokens, completion, least, holder, deadline),
    );
  }
}
