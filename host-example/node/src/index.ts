/**
 * A token budget for every LLM agent thread.
 *
 * @module
 */
import "./dispose.js";

export {
  BudgetExhaustedError,
  InstanceLostError,
  InvalidInputError,
  OptionsDifferError,
  OutOfMemoryError,
  ParentCycleError,
  ThreadBudgetError,
  TooDeepError,
  TooManyHoldsError,
  TooManyThreadsError,
  UnknownHoldError,
  UnknownParentError,
} from "./errors.js";
export type { Hold } from "./hold.js";
export { Registry, type RegistryOptions } from "./registry.js";
export type { ThreadBudget } from "./thread-budget.js";
export type { Tokens } from "./tokens.js";
export type * from "./types.js";
