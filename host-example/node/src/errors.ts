import type { RegistryError } from "../build/component/interfaces/thread-budget-registry-types.js";
import { lift } from "./lift.js";
import type { Tokens } from "./tokens.js";

/**
 * An argument of the right type that no registry accepts. Nothing has changed.
 *
 * Token counts out of range are plain `RangeError`s, values of the wrong type `TypeError`s.
 */
export class InvalidInputError extends RangeError {
  override readonly name = "InvalidInputError";

  /** @internal */
  constructor(
    /** The contract's name of the error. */
    readonly code: "invalid-thread-id" | "invalid-request-id" | "invalid-threshold" | "batch-too-large" | "invalid-state",
    message: string,
    /** The percent of an `invalid-threshold`, the most entries of a `batch-too-large`. */
    readonly value?: number,
  ) {
    super(message);
  }
}

/** Why a call was not carried out. The registry goes on working, but after an `InstanceLostError`. */
export abstract class ThreadBudgetError extends Error {
  /** The contract's name of the error. */
  abstract readonly code: string;
}

/** The budget is used up, or the estimate does not fit. Ask for less, or end the thread. */
export class BudgetExhaustedError extends ThreadBudgetError {
  override readonly name = "BudgetExhaustedError";
  readonly code = "exhausted";

  /** @internal */
  constructor(
    /** The thread that has no room: the one that was checked, or an ancestor of it. */
    readonly threadId: string,
    /** Used so far. */
    readonly used: Tokens,
    /** Held for requests in flight. Where what is requested would fit without that, it may fit soon. */
    readonly held: Tokens,
    /** The thread's limit. */
    readonly maxTokens: Tokens,
    /** What was asked for: the estimate of a check, the prompt and the least completion of a hold. */
    readonly requested: Tokens,
  ) {
    const alsoHeld = held > 0 ? ` and ${held} are held` : "";
    super(`thread ${threadId}: ${used} of ${maxTokens} tokens are used${alsoHeld}, ${requested} more do not fit`);
  }
}

/** The thread is new, and there are as many as there may be. Clean up a thread. */
export class TooManyThreadsError extends ThreadBudgetError {
  override readonly name = "TooManyThreadsError";
  readonly code = "too-many-threads";

  /** @internal */
  constructor(
    /** The most there may be. */
    readonly limit: number,
  ) {
    super(`there are already ${limit} threads, the most there may be; clean up a thread first`);
  }
}

/** The instance's memory is used up. Threads that exist go on working; clean up a thread. */
export class OutOfMemoryError extends ThreadBudgetError {
  override readonly name = "OutOfMemoryError";
  readonly code = "out-of-memory";

  /** @internal */
  constructor() {
    super("the instance's memory is used up; clean up a thread first");
  }
}

/** The thread to be the parent does not exist. Open it first. */
export class UnknownParentError extends ThreadBudgetError {
  override readonly name = "UnknownParentError";
  readonly code = "unknown-parent";

  /** @internal */
  constructor(readonly parent: string) {
    super(`the parent ${parent} does not exist; open it first`);
  }
}

/** The thread to be the parent is the thread itself or below it. */
export class ParentCycleError extends ThreadBudgetError {
  override readonly name = "ParentCycleError";
  readonly code = "parent-cycle";

  /** @internal */
  constructor(readonly parent: string) {
    super(`the parent ${parent} is the thread itself or below it`);
  }
}

/** The line of ancestors would get too long. */
export class TooDeepError extends ThreadBudgetError {
  override readonly name = "TooDeepError";
  readonly code = "too-deep";

  /** @internal */
  constructor(
    /** The most threads there may be in a line. */
    readonly max: number,
  ) {
    super(`a line of threads, each the parent of the next, has at most ${max}`);
  }
}

/** The thread exists with another limit or parent. Clean it up first. */
export class OptionsDifferError extends ThreadBudgetError {
  override readonly name = "OptionsDifferError";
  readonly code = "options-differ";

  /** @internal */
  constructor(readonly threadId: string) {
    super(`thread ${threadId} exists with another limit or parent; clean it up first`);
  }
}

/** The thread has as many holds as it may have. Settle or release some. */
export class TooManyHoldsError extends ThreadBudgetError {
  override readonly name = "TooManyHoldsError";
  readonly code = "too-many-holds";

  /** @internal */
  constructor(
    /** The most there may be. */
    readonly limit: number,
  ) {
    super(`a thread has at most ${limit} holds; settle or release some first`);
  }
}

/** Nothing is held for the request, and nothing was counted: it was settled or released before, or its thread is gone. */
export class UnknownHoldError extends ThreadBudgetError {
  override readonly name = "UnknownHoldError";
  readonly code = "unknown-hold";

  /** @internal */
  constructor() {
    super("nothing is held for that request, and nothing was counted");
  }
}

/** A call broke off within the component, so that its state cannot be trusted. Make a new registry. */
export class InstanceLostError extends ThreadBudgetError {
  override readonly name = "InstanceLostError";
  readonly code = "instance-lost";

  /** @internal */
  constructor(cause: unknown) {
    super(`a call broke off within the component (${cause}); make a new registry`, { cause });
  }
}

/** @internal The contract's error as an error of this package. */
export function liftError(error: RegistryError): InvalidInputError | ThreadBudgetError {
  switch (error.tag) {
    case "exhausted": {
      const { threadId, used, held, maxTokens, requested } = lift(error.val);
      return new BudgetExhaustedError(threadId, used, held, maxTokens, requested);
    }
    case "too-many-threads":
      return new TooManyThreadsError(error.val);
    case "out-of-memory":
      return new OutOfMemoryError();
    case "unknown-parent":
      return new UnknownParentError(error.val);
    case "parent-cycle":
      return new ParentCycleError(error.val);
    case "too-deep":
      return new TooDeepError(error.val);
    case "options-differ":
      return new OptionsDifferError(error.val);
    case "too-many-holds":
      return new TooManyHoldsError(error.val);
    case "unknown-hold":
      return new UnknownHoldError();
    case "invalid-threshold":
      return new InvalidInputError(error.tag, `threshold ${error.val} %: a percent is 1 to 100, and given once`, error.val);
    case "batch-too-large":
      return new InvalidInputError(error.tag, `a batch has at most ${error.val} entries; send several`, error.val);
    case "invalid-thread-id":
    case "invalid-request-id":
    case "invalid-state":
      return new InvalidInputError(error.tag, error.val);
  }
}
