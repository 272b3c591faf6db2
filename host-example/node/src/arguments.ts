/** The arguments of every call of the contract, in order. Made from wit/ by host-example/generate; do not edit. */
import * as lower from "./lower.js";

const severity = lower.oneOf("warning", "critical", "final");

const threshold = lower.record({
  percent: lower.u32,
  severity,
});

const thresholdCrossed = lower.record({
  threadId: lower.text,
  thresholdPercent: lower.u32,
  severity,
  percentUsed: lower.f64,
  tokensUsed: lower.u64,
  tokensRemaining: lower.u64,
  maxTokens: lower.u64,
  runway: lower.option(lower.u64),
});

const usageEntry = lower.record({
  threadId: lower.text,
  promptTokens: lower.u64,
  completionTokens: lower.u64,
});

const threadOptions = lower.record({
  maxTokens: lower.option(lower.u64),
  parent: lower.option(lower.text),
});

const acknowledgement = lower.record({
  thresholdPercent: lower.u32,
  maxTokens: lower.u64,
});

const holdState = lower.record({
  madeFor: lower.option(lower.text),
  requestId: lower.text,
  promptTokens: lower.u64,
  completionTokens: lower.u64,
  completionBefore: lower.u64,
  holder: lower.u64,
  deadline: lower.u64,
});

const lostState = lower.record({
  madeFor: lower.option(lower.text),
  requestId: lower.text,
  promptTokens: lower.u64,
  completionTokens: lower.u64,
});

const threadState = lower.record({
  threadId: lower.text,
  birth: lower.u64,
  parent: lower.option(lower.text),
  opened: lower.boolean,
  maxTokens: lower.u64,
  promptTokens: lower.u64,
  completionTokens: lower.u64,
  requestCount: lower.u64,
  averageTokens: lower.u64,
  triggeredThresholds: lower.list(threshold),
  pendingThresholds: lower.list(lower.u32),
  requestIds: lower.list(lower.text),
  holds: lower.list(holdState),
  lost: lower.list(lostState),
});

export const registry = {
  configure: {
    maxTokensPerThread: lower.u64,
  },
  maxTokensPerThread: {},
  setThresholds: {
    thresholds: lower.list(threshold),
  },
  thresholds: {},
  setMaxThreads: {
    maxThreads: lower.u32,
  },
  setNextBirth: {
    birth: lower.u64,
  },
  getBudget: {
    threadId: lower.text,
  },
  checkBudget: {
    threadId: lower.text,
    estimatedTokens: lower.u64,
  },
  consume: {
    threadId: lower.text,
    promptTokens: lower.u64,
    completionTokens: lower.u64,
  },
  consumeBatch: {
    entries: lower.list(usageEntry),
  },
  hold: {
    threadId: lower.text,
    requestId: lower.text,
    promptTokens: lower.u64,
    completionTokens: lower.u64,
    leastCompletionTokens: lower.u64,
    holder: lower.u64,
    deadline: lower.u64,
  },
  settle: {
    threadId: lower.text,
    requestId: lower.text,
    promptTokens: lower.u64,
    completionTokens: lower.u64,
    remember: lower.boolean,
  },
  settleLost: {
    threadId: lower.text,
    requestId: lower.text,
    promptTokens: lower.u64,
    completionTokens: lower.u64,
  },
  release: {
    threadId: lower.text,
    requestId: lower.text,
  },
  openThread: {
    threadId: lower.text,
    options: threadOptions,
  },
  setLimit: {
    threadId: lower.text,
    maxTokens: lower.u64,
  },
  pendingWarnings: {
    threadId: lower.text,
  },
  acknowledgeWarnings: {
    threadId: lower.text,
    acknowledgements: lower.list(acknowledgement),
  },
  hasBudget: {
    threadId: lower.text,
  },
  getUsage: {
    threadId: lower.text,
  },
  getAllUsage: {},
  heldTokens: {
    threadId: lower.text,
  },
  resetThread: {
    threadId: lower.text,
  },
  cleanupThread: {
    threadId: lower.text,
  },
  clear: {},
  snapshot: {
    after: lower.option(lower.text),
    limit: lower.u32,
  },
  restore: {
    states: lower.list(threadState),
  },
  takeChanges: {
    limit: lower.u32,
  },
  dropTree: {
    threadId: lower.text,
  },
};

export const threadBudget = {
  threadId: {},
  usage: {},
  percentUsed: {},
  isExhausted: {},
  heldTokens: {},
  isDetached: {},
  canConsume: {
    estimatedTokens: lower.u64,
  },
  consume: {
    promptTokens: lower.u64,
    completionTokens: lower.u64,
  },
  triggeredThresholds: {},
  checkThresholds: {
    thresholds: lower.list(threshold),
  },
};

export const warnings = {
  budgetWarning: {
    crossed: thresholdCrossed,
  },
};
