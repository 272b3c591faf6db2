/** The records of the contract, with their counts as `Tokens`. What they say comes from `wit/types.wit`, through jco. */
import type * as wit from "../build/component/interfaces/thread-budget-registry-types.js";
import type { Lifted } from "./lift.js";

export type Severity = wit.Severity;
export interface Threshold extends Lifted<wit.Threshold> {}
export interface Usage extends Lifted<wit.Usage> {}
export interface ThresholdCrossed extends Lifted<wit.ThresholdCrossed> {}
export interface BudgetWarning extends Lifted<wit.BudgetWarning> {}
export interface Acknowledgement extends Lifted<wit.Acknowledgement> {}
export interface Held extends Lifted<wit.Held> {}
export interface Consumed extends Lifted<wit.Consumed> {}
export interface UsageEntry extends Lifted<wit.UsageEntry> {}
export interface ThreadOptions extends Lifted<wit.ThreadOptions> {}
export interface ThreadState extends Lifted<wit.ThreadState> {}
export interface HoldState extends Lifted<wit.HoldState> {}
export interface LostState extends Lifted<wit.LostState> {}
export interface FinalBudget extends Lifted<wit.FinalBudget> {}
