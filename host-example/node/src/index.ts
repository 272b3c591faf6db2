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
  TooManyThreadsError,
  UnknownParentError,
} from "./errors.js";
export type { Reservation, ThreadBudget } from "./handles.js";
export { Registry, type RegistryOptions } from "./registry.js";
export type { Tokens } from "./tokens.js";
export type * from "./types.js";
