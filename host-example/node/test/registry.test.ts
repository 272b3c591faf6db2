import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BudgetExhaustedError,
  InvalidInputError,
  OptionsDifferError,
  ParentCycleError,
  Registry,
  ThreadBudgetError,
  TooDeepError,
  TooManyThreadsError,
  UnknownHoldError,
  UnknownParentError,
  type Severity,
} from "thread-budget";

const LARGEST = 2n ** 64n - 1n;

test("checks before, counts after, warns once and refuses at the end", () => {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  registry.checkBudget("a", 800);
  const { usage, room, severity, crossed, repeated } = registry.consume("a", 700, 220);
  assert.deepEqual(usage, {
    promptTokens: 700,
    completionTokens: 220,
    totalTokens: 920,
    remaining: 80,
    maxTokens: 1_000,
    requestCount: 1,
  });
  assert.deepEqual(crossed.map(({ thresholdPercent }) => thresholdPercent), [75, 90]);
  assert.equal(repeated, false);
  assert.deepEqual([room, severity, crossed[1]!.runway], [80, "critical", 0]);

  assert.match(registry.budgetWarning(crossed[1]!).message, /^WARNING: 92%.* 80 tokens/);
  const pending = registry.pendingWarnings("a");
  assert.deepEqual(pending.map(({ severity }) => severity), ["warning", "critical"]);
  registry.acknowledgeWarnings("a", [pending[0]!]);
  assert.deepEqual(registry.pendingWarnings("a"), [pending[1]]);

  assert.throws(
    () => registry.checkBudget("a", 81),
    (error) =>
      error instanceof BudgetExhaustedError &&
      error instanceof ThreadBudgetError &&
      error.code === "exhausted" &&
      error.threadId === "a" &&
      error.used === 920 &&
      error.held === 0 &&
      error.maxTokens === 1_000 &&
      error.requested === 81,
  );
  registry.checkBudget("a", 80);
});

test("settings are the registry's, and registries share nothing", () => {
  const thresholds = [{ percent: 50, severity: "final" as Severity }];
  const registry = new Registry({ maxTokensPerThread: 10, thresholds, maxThreads: 1 });
  assert.deepEqual(registry.thresholds(), thresholds);
  assert.equal(registry.maxTokensPerThread(), 10);
  registry.consume("a", 5, 0);
  assert.throws(() => registry.consume("b", 1, 0), (error) => error instanceof TooManyThreadsError && error.limit === 1);

  const other = new Registry();
  assert.equal(other.maxTokensPerThread(), 100_000);
  assert.equal(other.hasBudget("a"), false);
});

test("counts are exact to 2^64-1: numbers where those are, bigints beyond", () => {
  const registry = new Registry({ maxTokensPerThread: LARGEST });
  assert.equal(registry.maxTokensPerThread(), LARGEST);
  registry.consume("a", Number.MAX_SAFE_INTEGER, 0n);
  assert.equal(registry.getUsage("a")?.totalTokens, Number.MAX_SAFE_INTEGER);
  assert.equal(registry.consume("a", 0, 1).usage.totalTokens, 2n ** 53n);
  assert.equal(registry.consume("a", LARGEST, 0).usage.totalTokens, LARGEST);
});

test("a batch is all or nothing", () => {
  const registry = new Registry({ maxTokensPerThread: 100 });
  const good = { threadId: "a", promptTokens: 50, completionTokens: 30 };
  assert.throws(() => registry.consumeBatch([good, { ...good, threadId: "" }]), { code: "invalid-thread-id", message: /1 to 1,024 bytes/ });
  assert.equal(registry.hasBudget("a"), false);
  assert.deepEqual(registry.consumeBatch([good]).map(({ thresholdPercent }) => thresholdPercent), [75]);
  assert.throws(() => registry.consumeBatch(Array(4_097).fill(good)), { code: "batch-too-large", value: 4_096 });
});

test("a request that may be reported twice is counted once", () => {
  const registry = new Registry();
  assert.equal(registry.settle("a", "request-1", 10, 5, true).repeated, false);
  const again = registry.settle("a", "request-1", 10, 5, true);
  assert.equal(again.repeated, true);
  assert.equal(again.usage.totalTokens, 15);
  assert.throws(() => registry.settle("a", "request-2", 10, 5, false), UnknownHoldError);
  for (const id of ["", "x".repeat(257), "x".repeat(1_000_000)]) {
    assert.throws(() => registry.settle("a", id, 1, 1, true), { name: "InvalidInputError", code: "invalid-request-id" });
  }
  assert.throws(() => registry.settle("a", "\ud800", 1, 1, true), { name: "RangeError", message: /requestId has a lone surrogate/ });
});

test("a handle sees what others consume, and outlives a reset", () => {
  const registry = new Registry({ maxTokensPerThread: 100 });
  using budget = registry.getBudget("a");
  registry.consume("a", 40, 0);
  assert.equal(budget.threadId(), "a");
  assert.equal(budget.usage().totalTokens, 40);
  assert.equal(budget.percentUsed(), 40);
  assert.equal(budget.canConsume(60), true);
  assert.equal(budget.canConsume(61), false);
  assert.deepEqual(budget.checkThresholds([{ percent: 30, severity: "warning" }]).map((crossed) => crossed.thresholdPercent), [30]);
  assert.deepEqual(budget.consume(40, 20).crossed.map((crossed) => crossed.thresholdPercent), [75, 90, 95]);
  assert.deepEqual(budget.triggeredThresholds(), [30, 75, 90, 95]);
  assert.equal(budget.isExhausted(), true);

  registry.resetThread("a");
  assert.equal(budget.isDetached(), true);
  assert.equal(registry.hasBudget("a"), false);
});

test("a disposed handle says so, and can be disposed again", () => {
  const budget = new Registry().getBudget("a");
  budget[Symbol.dispose]();
  budget[Symbol.dispose]();
  assert.throws(() => budget.usage(), { name: "TypeError", message: /given back/ });
});

test("sub-agents count against their parents", () => {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  registry.openThread("agent", {}).consume(500, 0);
  using sub = registry.openThread("sub", { maxTokens: 800, parent: "agent" });
  assert.equal(sub.canConsume(501), false);
  assert.throws(() => registry.checkBudget("sub", 501), { code: "exhausted", threadId: "agent" });
  sub.consume(250, 0);
  assert.equal(registry.getUsage("agent")?.totalTokens, 750);

  assert.throws(() => registry.openThread("x", { parent: "nobody" }), (error) => error instanceof UnknownParentError && error.parent === "nobody");
  assert.throws(() => registry.openThread("x", { parent: "x" }), ParentCycleError);
  assert.throws(() => registry.openThread("sub", { maxTokens: 1 }), OptionsDifferError);
  let parent = "agent";
  assert.throws(() => {
    for (let depth = 2; ; depth++) {
      const child = `deep-${depth}`;
      registry.openThread(child, { parent });
      parent = child;
    }
  }, (error) => error instanceof TooDeepError && error.max === 16);
});

test("a living thread gets another limit", () => {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  using budget = registry.getBudget("a");
  registry.consume("a", 800, 0);
  assert.equal(registry.setLimit("a", 2_000).remaining, 1_200);
  assert.deepEqual([budget.usage().maxTokens, budget.triggeredThresholds()], [2_000, []]);
  assert.deepEqual(registry.pendingWarnings("a"), []);
  assert.deepEqual(registry.consume("a", 700, 0).crossed.map((crossed) => crossed.thresholdPercent), [75]);
  registry.setLimit("a", 1_000);
  assert.equal(budget.isExhausted(), true);
  registry.resetThread("a");
  assert.equal(registry.getUsage("a")?.remaining, 1_000);
  assert.equal(registry.setLimit("b", LARGEST).maxTokens, LARGEST);
});

test("a snapshot can be restored, in pages", () => {
  const registry = new Registry({ maxTokensPerThread: LARGEST });
  registry.consume("a", LARGEST, 0);
  registry.openThread("a/b", { parent: "a", maxTokens: 10 });
  registry.settle("a/b", "once", 8, 0, true);
  registry.hold("c", "in flight", 1, 0);

  const copy = new Registry();
  let after: string | undefined;
  for (;;) {
    const page = registry.snapshot(after, 1);
    if (page.length === 0) break;
    copy.restore(page);
    after = page.at(-1)!.threadId;
  }
  assert.deepEqual(copy.snapshot(undefined, 10), registry.snapshot(undefined, 10));
  assert.equal(copy.settle("a/b", "once", 8, 0, true).repeated, true);
  assert.equal(copy.settle("c", "in flight", 1, 0, false).usage.totalTokens, 1);
  assert.throws(() => copy.restore(registry.snapshot(undefined, 10)), (error) => error instanceof InvalidInputError && error.code === "invalid-state");
});

test("cleaning up returns the last word, once", () => {
  const registry = new Registry({ maxTokensPerThread: 100 });
  registry.consume("a", 80, 0);
  assert.deepEqual(registry.getAllUsage().map(([id]) => id), ["a"]);
  assert.deepEqual(registry.cleanupThread("a")?.triggeredThresholds, [75]);
  assert.equal(registry.cleanupThread("a"), undefined);
  registry.consume("b", 1, 0);
  registry.clear();
  assert.deepEqual(registry.getAllUsage(), []);
});

/** Values that are no count, with the error each is. */
const NO_COUNTS: [unknown, ErrorConstructor][] = [
  [-1, RangeError],
  [0.5, RangeError],
  [NaN, RangeError],
  [Infinity, RangeError],
  [2 ** 53, RangeError],
  [-1n, RangeError],
  [2n ** 64n, RangeError],
  ["1", TypeError],
  [null, TypeError],
  [undefined, TypeError],
  [[1], TypeError],
  [{}, TypeError],
  [true, TypeError],
];

test("what is no count is refused before anything happens, and the registry goes on", () => {
  const registry = new Registry();
  using budget = registry.getBudget("b");
  for (const [value, kind] of NO_COUNTS) {
    const count = value as number;
    const calls = [
      () => registry.consume("a", count, 1),
      () => registry.consume("a", 1, count),
      () => registry.checkBudget("a", count),
      () => registry.hold("a", "r", count, 1),
      ...(value === undefined ? [] : [() => registry.hold("a", "r", 1, 1, 1, 1, count)]),
      () => registry.setLimit("a", count),
      () => registry.settle("a", "r", count, 1, true),
      () => registry.settleLost("a", "r", 1, count),
      () => registry.consumeBatch([{ threadId: "a", promptTokens: 1, completionTokens: count }]),
      () => budget.consume(count, 1),
      () => budget.canConsume(count),
      () => registry.configure(count),
      ...(value == null ? [] : [() => registry.openThread("a", { maxTokens: count })]),
    ];
    for (const call of calls) assert.throws(call, kind, `${String(value)} in ${call}`);
    assert.equal(registry.hasBudget("a"), false);
  }
  assert.equal(budget.usage().requestCount, 0);
  assert.equal(registry.consume("a", 1, 1).usage.totalTokens, 2);
});

test("what is no thread id is refused, and queries about it know no such thread", () => {
  const registry = new Registry();
  registry.consume("\ufffd", 7, 0);
  const creating = [
    (id: string) => registry.consume(id, 1, 1),
    (id: string) => registry.checkBudget(id, 1),
    (id: string) => registry.getBudget(id),
    (id: string) => registry.openThread(id, {}),
    (id: string) => registry.hold(id, "r", 1, 1),
    (id: string) => registry.setLimit(id, 1),
    (id: string) => registry.settle(id, "r", 1, 1, true),
  ];
  for (const id of ["", "x".repeat(1_025), "é".repeat(513), "x".repeat(1_000_000), "x" + "\u{1f600}".repeat(600)]) {
    for (const call of creating) {
      assert.throws(
        () => call(id),
        (error) => error instanceof RangeError && error instanceof InvalidInputError && error.code === "invalid-thread-id",
      );
    }
    assert.equal(registry.hasBudget(id), false);
    assert.equal(registry.getUsage(id), undefined);
    assert.equal(registry.heldTokens(id), 0);
    assert.deepEqual(registry.pendingWarnings(id), []);
    assert.equal(registry.cleanupThread(id), undefined);
    registry.resetThread(id);
  }
  // UTF-8 has no lone surrogates, and what would stand for one is another id.
  for (const id of ["\ud800", "a\udc00b"]) {
    for (const call of [...creating, (id: string) => registry.hasBudget(id)]) {
      assert.throws(() => call(id), { name: "RangeError", message: "threadId has a lone surrogate, expected text that UTF-8 can encode" });
    }
  }
  for (const id of [7, null, undefined, {}, ["a"], Symbol("a")]) {
    assert.throws(() => registry.consume(id as string, 1, 1), TypeError);
    assert.throws(() => registry.hasBudget(id as string), TypeError);
  }
  assert.deepEqual(registry.getAllUsage().map(([id, { totalTokens }]) => [id, totalTokens]), [["\ufffd", 7]]);
  registry.consume("é".repeat(512), 1, 1);
});

test("records of the wrong shape name the field", () => {
  const registry = new Registry();
  const [state] = (registry.consume("s", 1, 1), registry.snapshot(undefined, 1));
  const crossed = { threadId: "a", thresholdPercent: 75, severity: "warning" as Severity, percentUsed: 80, tokensUsed: 8, tokensRemaining: 2, maxTokens: 10 };
  const cases: [() => unknown, string | RegExp][] = [
    [() => registry.setThresholds([{ percent: 50, severity: "urgent" as Severity }]), 'thresholds[0].severity is "urgent"'],
    [() => registry.setThresholds({} as []), "thresholds is of type object"],
    [() => registry.setThresholds([null as never]), "thresholds[0] is null"],
    [() => registry.consumeBatch("a" as never), "entries is of type string"],
    [() => registry.setMaxThreads(-1), "maxThreads is -1"],
    [() => registry.snapshot(undefined, 1.5), "limit is 1.5"],
    [() => registry.snapshot("\ud800", 1), "after has a lone surrogate"],
    [() => registry.budgetWarning({ ...crossed, tokensUsed: -1 }), "crossed.tokensUsed is -1"],
    [() => registry.budgetWarning({ ...crossed, percentUsed: "80" as never }), "crossed.percentUsed is of type string"],
    [() => registry.restore([{ ...state!, opened: 1 as never }]), "states[0].opened is of type number"],
    [() => registry.restore([{ ...state!, requestIds: ["\ud800"] }]), "states[0].requestIds[0] has a lone surrogate"],
    [() => registry.restore([{ ...state!, pendingThresholds: [2 ** 32 + 75] }]), "states[0].pendingThresholds[0] is 4294967371"],
    [() => registry.restore([{ ...state!, holds: [{ requestId: "r" } as never] }]), "states[0].holds[0].promptTokens is undefined"],
    [() => registry.acknowledgeWarnings("a", [{ thresholdPercent: 75 } as never]), "acknowledgements[0].maxTokens is undefined"],
    [() => registry.settle("a", "r", 1, 1, 1 as never), "remember is of type number"],
    [() => registry.setThresholds([{ percent: 7.5, severity: "warning" }]), "thresholds[0].percent is 7.5"],
  ];
  for (const [call, message] of cases) {
    assert.throws(call, (error: Error) => (error instanceof TypeError || error instanceof RangeError) && error.message.startsWith(message as string), String(call));
  }
  for (const percent of [0, 101]) {
    assert.throws(() => registry.setThresholds([{ percent, severity: "warning" }]), { code: "invalid-threshold", value: percent });
  }
  assert.deepEqual(registry.thresholds().map(({ percent }) => percent), [75, 90, 95]);
});
