/** Results, with their counts as numbers where those are exact. */
import type * as wit from "../build/component/interfaces/thread-budget-registry-types.js";
import { liftTokens } from "./tokens.js";
import type { BudgetWarning, Consumed, FinalBudget, ThreadState, ThresholdCrossed, Usage } from "./types.js";

export function liftUsage(usage: wit.Usage): Usage {
  return {
    promptTokens: liftTokens(usage.promptTokens),
    completionTokens: liftTokens(usage.completionTokens),
    totalTokens: liftTokens(usage.totalTokens),
    remaining: liftTokens(usage.remaining),
    maxTokens: liftTokens(usage.maxTokens),
    requestCount: liftTokens(usage.requestCount),
  };
}

export function liftCrossed(crossed: wit.ThresholdCrossed): ThresholdCrossed {
  return {
    threadId: crossed.threadId,
    thresholdPercent: crossed.thresholdPercent,
    severity: crossed.severity,
    percentUsed: crossed.percentUsed,
    tokensUsed: liftTokens(crossed.tokensUsed),
    tokensRemaining: liftTokens(crossed.tokensRemaining),
    maxTokens: liftTokens(crossed.maxTokens),
  };
}

export function liftConsumed(consumed: wit.Consumed): Consumed {
  return {
    usage: liftUsage(consumed.usage),
    crossed: consumed.crossed.map(liftCrossed),
    repeated: consumed.repeated,
  };
}

export function liftWarning(warning: wit.BudgetWarning): BudgetWarning {
  return {
    percentUsed: warning.percentUsed,
    tokensUsed: liftTokens(warning.tokensUsed),
    tokensRemaining: liftTokens(warning.tokensRemaining),
    maxTokens: liftTokens(warning.maxTokens),
    severity: warning.severity,
    message: warning.message,
  };
}

export function liftFinal(final: wit.FinalBudget): FinalBudget {
  return {
    usage: liftUsage(final.usage),
    percentUsed: final.percentUsed,
    triggeredThresholds: [...final.triggeredThresholds],
  };
}

export function liftState(state: wit.ThreadState): ThreadState {
  return {
    threadId: state.threadId,
    parent: state.parent,
    opened: state.opened,
    maxTokens: liftTokens(state.maxTokens),
    promptTokens: liftTokens(state.promptTokens),
    completionTokens: liftTokens(state.completionTokens),
    requestCount: liftTokens(state.requestCount),
    triggeredThresholds: [...state.triggeredThresholds],
    undeliveredThresholds: state.undeliveredThresholds,
    requestIds: state.requestIds,
  };
}
