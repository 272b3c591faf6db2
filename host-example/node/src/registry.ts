import { UnknownParentError } from "./errors.js";
import { Reservation, ThreadBudget } from "./handles.js";
import { Instance } from "./instance.js";
import { liftConsumed, liftCrossed, liftFinal, liftState, liftUsage, liftWarning } from "./lift.js";
import {
  canExist,
  lowerCrossed,
  lowerEntries,
  lowerOptions,
  lowerReachable,
  lowerRequestId,
  lowerStates,
  lowerText,
  lowerThreadId,
  lowerU32,
} from "./lower.js";
import { liftTokens, lowerTokens, type Tokens } from "./tokens.js";
import type {
  BudgetWarning,
  Consumed,
  FinalBudget,
  ThreadOptions,
  ThreadState,
  Threshold,
  ThresholdCrossed,
  Usage,
  UsageEntry,
} from "./types.js";

/** What a registry starts with. */
export interface RegistryOptions {
  /** The limit of every thread that is not given one of its own; 100,000 when left out. */
  maxTokensPerThread?: Tokens | undefined;
  /** Where threads are warned; 75 `warning`, 90 `critical`, 95 `final` when left out. */
  thresholds?: readonly Threshold[] | undefined;
  /** The most threads there may be, to bound the memory; 2^32-1 when left out. */
  maxThreads?: number | undefined;
}

/**
 * A registry of budgets: an instance of the component, with memory of its own. Give each tenant one, and
 * nothing is shared between them.
 *
 * Calls are synchronous and take microseconds. A thread id is 1 to 1,024 bytes of UTF-8; calls that would
 * create a thread throw an `InvalidInputError` for another one, queries answer that there is no such
 * thread. Arguments are checked before anything happens: a `TypeError` or `RangeError` changes nothing.
 */
export class Registry {
  readonly #instance = new Instance();

  constructor({ maxTokensPerThread, thresholds, maxThreads }: RegistryOptions = {}) {
    if (maxTokensPerThread != null) this.configure(maxTokensPerThread);
    if (thresholds != null) this.setThresholds(thresholds);
    if (maxThreads != null) this.setMaxThreads(maxThreads);
  }

  /** Set the limit of threads created from now on; threads that exist keep theirs, see {@link setLimit}. */
  configure(maxTokensPerThread: Tokens): void {
    const limit = lowerTokens(maxTokensPerThread, "maxTokensPerThread");
    this.#instance.call(({ registry }) => registry.configure(limit));
  }

  /** The limit that a new thread gets. */
  maxTokensPerThread(): Tokens {
    return liftTokens(this.#instance.call(({ registry }) => registry.maxTokensPerThread()));
  }

  /**
   * Replace the thresholds, for every thread from its next consumption on; an empty list turns warnings off.
   * @throws {InvalidInputError} `invalid-threshold`: a percent outside 1 to 100, or given twice.
   */
  setThresholds(thresholds: readonly Threshold[]): void {
    const lowered = lowerReachable(thresholds);
    this.#instance.call(({ registry }) => registry.setThresholds(lowered));
  }

  /** The thresholds in force, ascending by percent. */
  thresholds(): Threshold[] {
    return this.#instance.call(({ registry }) => registry.thresholds());
  }

  /** Set how many threads may exist; those beyond a lowered limit stay. 0 to 2^32-1. */
  setMaxThreads(maxThreads: number): void {
    const limit = lowerU32(maxThreads, "maxThreads");
    this.#instance.call(({ registry }) => registry.setMaxThreads(limit));
  }

  /**
   * A live handle on a thread's budget; the thread is created when it does not exist.
   * @throws {InvalidInputError} {@link TooManyThreadsError} {@link OutOfMemoryError}
   */
  getBudget(threadId: string): ThreadBudget {
    const id = lowerThreadId(threadId, "threadId");
    return new ThreadBudget(
      this.#instance,
      this.#instance.call(({ registry }) => registry.getBudget(id)),
    );
  }

  /**
   * Create a thread with a limit of its own, or below a parent, or both. One that exists is returned as it
   * is when it has the limit and the parent asked for.
   * @throws {OptionsDifferError} {@link UnknownParentError} {@link ParentCycleError} {@link TooDeepError};
   * otherwise as {@link getBudget}.
   */
  openThread(threadId: string, options: ThreadOptions = {}): ThreadBudget {
    const id = lowerThreadId(threadId, "threadId");
    const lowered = lowerOptions(options);
    if (lowered.parent !== undefined && !canExist(lowered.parent, "options.parent")) {
      throw new UnknownParentError(lowered.parent);
    }
    return new ThreadBudget(
      this.#instance,
      this.#instance.call(({ registry }) => registry.openThread(id, lowered)),
    );
  }

  /**
   * Give a thread another limit, which it keeps over a reset, and return its usage under it; the thread is
   * created when it does not exist. Below what is used it is exhausted. Thresholds that it does not reach under
   * the new limit fire when they are reached again, those that it newly reaches with the next use.
   * @throws As {@link getBudget}.
   */
  setLimit(threadId: string, maxTokens: Tokens): Usage {
    const id = lowerThreadId(threadId, "threadId");
    const limit = lowerTokens(maxTokens, "maxTokens");
    return liftUsage(this.#instance.call(({ registry }) => registry.setLimit(id, limit)));
  }

  /**
   * Ask, before an LLM call, whether the thread may use so many more, beside what is held. The thread is
   * created when it does not exist; nothing is recorded.
   * @throws {BudgetExhaustedError} It is used up, or the estimate does not fit, here or in an ancestor;
   * otherwise as {@link getBudget}.
   */
  checkBudget(threadId: string, estimatedTokens: Tokens): void {
    const id = lowerThreadId(threadId, "threadId");
    const estimated = lowerTokens(estimatedTokens, "estimatedTokens");
    this.#instance.call(({ registry }) => registry.checkBudget(id, estimated));
  }

  /**
   * Check as {@link checkBudget} does, and hold the tokens until the reservation is committed or released,
   * so that requests in flight cannot pass the same check together.
   *
   * ```ts
   * using reservation = registry.reserve("agent-7", 800);
   * const { usage } = await callTheModel();
   * reservation.commit(usage.prompt_tokens, usage.completion_tokens);
   * ```
   * @throws As {@link checkBudget}.
   */
  reserve(threadId: string, estimatedTokens: Tokens): Reservation {
    const id = lowerThreadId(threadId, "threadId");
    const estimated = lowerTokens(estimatedTokens, "estimatedTokens");
    return new Reservation(
      this.#instance,
      this.#instance.call(({ registry }) => registry.reserve(id, estimated)),
    );
  }

  /**
   * Record, after an LLM call, what it used, overshoot included; the thread is created when it does not exist.
   * @throws As {@link getBudget}.
   */
  consume(threadId: string, promptTokens: Tokens, completionTokens: Tokens): Consumed {
    const id = lowerThreadId(threadId, "threadId");
    const prompt = lowerTokens(promptTokens, "promptTokens");
    const completion = lowerTokens(completionTokens, "completionTokens");
    return liftConsumed(this.#instance.call(({ registry }) => registry.consume(id, prompt, completion)));
  }

  /**
   * {@link consume}, unless the thread has counted a request of that id among its latest 64: then nothing is
   * counted and the result is `repeated`. A request id is 1 to 256 bytes of UTF-8.
   * @throws {InvalidInputError} Also `invalid-request-id`; otherwise as {@link getBudget}.
   */
  consumeOnce(threadId: string, requestId: string, promptTokens: Tokens, completionTokens: Tokens): Consumed {
    const id = lowerThreadId(threadId, "threadId");
    const request = lowerRequestId(requestId);
    const prompt = lowerTokens(promptTokens, "promptTokens");
    const completion = lowerTokens(completionTokens, "completionTokens");
    return liftConsumed(this.#instance.call(({ registry }) => registry.consumeOnce(id, request, prompt, completion)));
  }

  /**
   * Record up to 4,096, in their order: all of them, or none when it throws. Returns what they crossed.
   * @throws {InvalidInputError} Also `batch-too-large`; otherwise as {@link getBudget}.
   */
  consumeBatch(entries: readonly UsageEntry[]): ThresholdCrossed[] {
    const lowered = lowerEntries(entries);
    return this.#instance.call(({ registry }) => registry.consumeBatch(lowered)).map(liftCrossed);
  }

  /** The warnings for thresholds crossed and not taken before, each once, with the numbers of now. */
  takeWarnings(threadId: string): BudgetWarning[] {
    if (!canExist(threadId, "threadId")) return [];
    return this.#instance.call(({ registry }) => registry.takeWarnings(threadId)).map(liftWarning);
  }

  /** Whether the thread exists. */
  hasBudget(threadId: string): boolean {
    return canExist(threadId, "threadId") && this.#instance.call(({ registry }) => registry.hasBudget(threadId));
  }

  /** The thread's usage, if it exists. */
  getUsage(threadId: string): Usage | undefined {
    if (!canExist(threadId, "threadId")) return undefined;
    const usage = this.#instance.call(({ registry }) => registry.getUsage(threadId));
    return usage && liftUsage(usage);
  }

  /** Every thread's usage, ascending by thread id (byte order); `new Map(...)` makes it a map. */
  getAllUsage(): [threadId: string, usage: Usage][] {
    return this.#instance
      .call(({ registry }) => registry.getAllUsage())
      .map(([threadId, usage]) => [threadId, liftUsage(usage)]);
  }

  /** What live reservations hold, of the thread and of those below it; 0 when it does not exist. */
  heldTokens(threadId: string): Tokens {
    if (!canExist(threadId, "threadId")) return 0;
    return liftTokens(this.#instance.call(({ registry }) => registry.heldTokens(threadId)));
  }

  /**
   * Forget what the thread used. One that was opened starts from zero in its place; its ancestors keep what
   * it used. Handles and reservations on the old budget go on, detached.
   */
  resetThread(threadId: string): void {
    if (canExist(threadId, "threadId")) this.#instance.call(({ registry }) => registry.resetThread(threadId));
  }

  /** Forget the thread and all below it, and return its final budget, if it existed. */
  cleanupThread(threadId: string): FinalBudget | undefined {
    if (!canExist(threadId, "threadId")) return undefined;
    const final = this.#instance.call(({ registry }) => registry.cleanupThread(threadId));
    return final && liftFinal(final);
  }

  /** Forget every thread. The limit, the thresholds and the thread limit stay. */
  clear(): void {
    this.#instance.call(({ registry }) => registry.clear());
  }

  /**
   * The states of up to `limit` threads (4,096 at most), those after the thread `after`, or the first ones;
   * an empty page is the end. Holds and settings are not in them.
   */
  snapshot(after?: string | null, limit = 4_096): ThreadState[] {
    const start = after == null ? undefined : lowerText(after, "after");
    const most = lowerU32(limit, "limit");
    return this.#instance.call(({ registry }) => registry.snapshot(start, most)).map(liftState);
  }

  /**
   * Bring threads back, all of them, or none when it throws. Restore pages in the order they were taken.
   * @throws {InvalidInputError} Also `invalid-state`; otherwise as {@link openThread}.
   */
  restore(states: readonly ThreadState[]): void {
    const lowered = lowerStates(states);
    this.#instance.call(({ registry }) => registry.restore(lowered));
  }

  /** The warning for the agent whose thread crossed a threshold; `takeWarnings` keeps track of them. */
  budgetWarning(crossed: ThresholdCrossed): BudgetWarning {
    const lowered = lowerCrossed(crossed);
    return liftWarning(this.#instance.call(({ warnings }) => warnings.budgetWarning(lowered)));
  }
}
