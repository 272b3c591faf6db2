import assert from "node:assert/strict";
import { test } from "node:test";
import { BudgetExhaustedError, Registry, TooManyHoldsError, UnknownHoldError } from "thread-budget";

const fresh = () => new Registry({ maxTokensPerThread: 1_000 });

test("a hold says what it was granted and where its thread stands", () => {
  const registry = fresh();
  registry.consume("a", 700, 60);
  const hold = registry.hold("a", "r", 100, 500, 20);
  assert.equal(hold.completionTokens, 140);
  assert.deepEqual([hold.usage.totalTokens, hold.room, hold.severity, hold.repeated], [760, 0, "warning", false]);
  assert.deepEqual(hold.pending.map(({ thresholdPercent }) => thresholdPercent), [75]);
  assert.throws(() => registry.hold("a", "s", 1, 0), (error) => error instanceof BudgetExhaustedError && error.held === 240);
  assert.throws(() => registry.checkBudget("a", 1), /760 of 1000 tokens are used and 240 are held, 1 more do not fit/);
});

test("before it is sent, using releases it, also when the call fails", () => {
  const registry = fresh();
  assert.throws(() => {
    using hold = registry.hold("a", "r", 600, 200);
    assert.equal(registry.heldTokens("a"), 800);
    assert.throws(() => registry.hold("a", "s", 201, 0), BudgetExhaustedError);
    assert.ok(hold);
    throw new Error("no route to the model");
  }, /no route to the model/);
  assert.equal(registry.heldTokens("a"), 0);
  assert.equal(registry.getUsage("a")?.totalTokens, 0);
});

test("after it is sent, using settles it as lost: its prompt, and the completion before it grew last", () => {
  const registry = fresh();
  const lose = (requestId: string, grow: number[]) => {
    using hold = registry.hold("a", requestId, 100, 10);
    hold.sent();
    for (const completionTokens of grow) hold.grow(completionTokens);
  };
  lose("r", []);
  assert.equal(registry.getUsage("a")?.totalTokens, 100);
  lose("s", [20, 30]);
  assert.equal(registry.getUsage("a")?.totalTokens, 220);
  lose("t", [20, 5]);
  assert.equal(registry.getUsage("a")?.totalTokens, 325);
  assert.equal(registry.heldTokens("a"), 0);
  // The bill comes after all.
  assert.equal(registry.settle("a", "s", 100, 33, false).usage.totalTokens, 338);
});

test("settle replaces the hold by what was used, once", () => {
  const registry = fresh();
  {
    using hold = registry.hold("a", "r", 600, 200);
    hold.sent();
    assert.throws(() => hold.settle(-1, 0), RangeError);
    assert.equal(registry.heldTokens("a"), 800, "a wrong count leaves the hold");
    assert.equal(hold.settle(300, 150).usage.totalTokens, 450);
    assert.throws(() => hold.settle(300, 150), UnknownHoldError);
  }
  assert.equal(registry.heldTokens("a"), 0);
  assert.equal(registry.getUsage("a")?.totalTokens, 450);
});

test("release gives back what was held, also after sending", () => {
  const registry = fresh();
  using hold = registry.hold("a", "r", 600, 200);
  hold.sent();
  assert.equal(hold.release(), true);
  assert.equal(hold.release(), false);
  assert.equal(registry.getUsage("a")?.totalTokens, 0);
});

test("a hold grows by what is left, or stays as it is", () => {
  const registry = fresh();
  using hold = registry.hold("a", "r", 100, 100);
  hold.grow(5_000, 100);
  assert.equal(hold.completionTokens, 900);
  assert.throws(() => hold.grow(901), BudgetExhaustedError);
  assert.equal(registry.heldTokens("a"), 1_000);
  assert.equal(hold.completionTokens, 900);
});

test("whoever knows its names may end it, and the guard does nothing more", () => {
  const registry = fresh();
  {
    using hold = registry.hold("a", "r", 100, 0);
    hold.sent();
    registry.settle("a", "r", 70, 0, false);
  }
  assert.equal(registry.getUsage("a")?.totalTokens, 70);
  registry.settle("a", "seen", 1, 0, true);
  {
    using hold = registry.hold("a", "seen", 100, 0);
    assert.equal(hold.repeated, true);
    hold.sent();
  }
  assert.equal(registry.getUsage("a")?.totalTokens, 71);
});

test("a hold counts in the ancestors, and moves to one when its thread is gone", () => {
  const registry = fresh();
  using agent = registry.openThread("agent", {});
  registry.openThread("sub", { parent: "agent" });
  using hold = registry.hold("sub", "r", 600, 0);
  assert.equal(agent.heldTokens(), 600);
  assert.throws(() => registry.checkBudget("agent", 401), BudgetExhaustedError);
  registry.cleanupThread("sub");
  assert.equal(agent.heldTokens(), 600);
  assert.equal(hold.settle(100, 0).usage.totalTokens, 100);
  assert.equal(registry.getUsage("agent")?.totalTokens, 100);
  assert.equal(registry.hasBudget("sub"), false);
});

test("a thread has so many holds at most", () => {
  const registry = fresh();
  for (let made = 0; made < 256; made++) registry.hold("a", `r${made}`, 1, 0);
  assert.throws(() => registry.hold("a", "one more", 1, 0), (error) => error instanceof TooManyHoldsError && error.limit === 256);
});
