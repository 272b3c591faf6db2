import type { Tokens } from "./tokens.js";

/** How urgent a crossed threshold is: plan the rest; finish the step; save state and answer now. */
export type Severity = "warning" | "critical" | "final";

/** A share of the limit at which a thread is warned, once. */
export interface Threshold {
  /** Whole percent of the thread's limit, 1 to 100. */
  percent: number;
  severity: Severity;
}

/** What one thread has consumed, at the moment of the call. */
export interface Usage {
  promptTokens: Tokens;
  completionTokens: Tokens;
  /** Prompt and completion together; it may pass `maxTokens`, since what was used is recorded. */
  totalTokens: Tokens;
  /** Left before the limit; 0 once that is reached. */
  remaining: Tokens;
  /** The thread's limit. */
  maxTokens: Tokens;
  /** How many times consumption was recorded. */
  requestCount: Tokens;
}

/** A threshold that a call crossed. Each is reported once per thread, and again when `setLimit` re-armed it. */
export interface ThresholdCrossed {
  threadId: string;
  /** Whole percent, 1 to 100. */
  thresholdPercent: number;
  severity: Severity;
  /** Percent used after the call, rounded to one decimal; passes 100 on overshoot. */
  percentUsed: number;
  tokensUsed: Tokens;
  tokensRemaining: Tokens;
  maxTokens: Tokens;
}

/** What an agent reads when its thread crossed a threshold. */
export interface BudgetWarning {
  /** Rounded to one decimal. */
  percentUsed: number;
  tokensUsed: Tokens;
  tokensRemaining: Tokens;
  maxTokens: Tokens;
  severity: Severity;
  /** English, for the agent. It starts with `Note:`, `WARNING:` or `CRITICAL:`. */
  message: string;
}

/** What a recorded consumption led to. */
export interface Consumed {
  /** The thread's usage after the call. */
  usage: Usage;
  /** The thread's own thresholds that this call crossed, ascending, then those of its ancestors. */
  crossed: ThresholdCrossed[];
  /** Whether `consumeOnce` knew the request, so that nothing was counted. */
  repeated: boolean;
}

/** One entry of a batch. */
export interface UsageEntry {
  threadId: string;
  promptTokens: Tokens;
  completionTokens: Tokens;
}

/** What a thread is opened with. */
export interface ThreadOptions {
  /** Its own limit; the registry's limit of that moment when left out. */
  maxTokens?: Tokens | undefined;
  /** An existing thread that what this one uses and holds counts against as well. */
  parent?: string | undefined;
}

/** Everything about one thread but its holds. */
export interface ThreadState {
  threadId: string;
  parent?: string | undefined;
  /** Whether `openThread` or `setLimit` gave it a limit or a parent, which it keeps over a reset. */
  opened: boolean;
  maxTokens: Tokens;
  promptTokens: Tokens;
  completionTokens: Tokens;
  requestCount: Tokens;
  /** Percent, ascending. */
  triggeredThresholds: number[];
  /** Those that `takeWarnings` has not handed out, with the severity they were crossed with. */
  undeliveredThresholds: Threshold[];
  /** What `consumeOnce` remembers, oldest first; at most 64. */
  requestIds: string[];
}

/** The last word on a thread that was cleaned up. */
export interface FinalBudget {
  usage: Usage;
  /** Not rounded; 0 when the limit is 0. */
  percentUsed: number;
  /** Every threshold the thread crossed, percent, ascending. */
  triggeredThresholds: number[];
}
