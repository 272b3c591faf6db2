import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { test } from "node:test";
import { BudgetExhaustedError, Registry } from "thread-budget";

test("using releases what was not committed, also when the call fails", () => {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  assert.throws(() => {
    using reservation = registry.reserve("a", 800);
    assert.equal(reservation.tokens(), 800);
    assert.equal(registry.heldTokens("a"), 800);
    assert.throws(() => registry.reserve("a", 201), BudgetExhaustedError);
    throw new Error("the model is down");
  }, /the model is down/);
  assert.equal(registry.heldTokens("a"), 0);
  assert.equal(registry.getUsage("a")?.totalTokens, 0);
});

test("commit replaces the hold by what was used, once", () => {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  {
    using reservation = registry.reserve("a", 800);
    assert.equal(reservation.chargedThread(), "a");
    assert.throws(() => reservation.commit(-1, 0), RangeError);
    assert.equal(registry.heldTokens("a"), 800, "a wrong count leaves the hold");
    assert.equal(reservation.commit(300, 150).usage.totalTokens, 450);
    assert.throws(() => reservation.commit(300, 150), TypeError);
    assert.throws(() => reservation.tokens(), TypeError);
    reservation.release();
  }
  assert.equal(registry.heldTokens("a"), 0);
  assert.equal(registry.getUsage("a")?.totalTokens, 450);
});

test("a hold counts in the ancestors", () => {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  using agent = registry.openThread("agent");
  registry.openThread("sub", { parent: "agent" });
  using _held = registry.reserve("sub", 600);
  assert.equal(agent.heldTokens(), 600);
  assert.throws(() => registry.checkBudget("agent", 401), BudgetExhaustedError);
});

test("a commit counts on the ancestor that is left", () => {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  registry.openThread("agent");
  registry.openThread("sub", { parent: "agent" });
  using reservation = registry.reserve("sub", 600);
  registry.cleanupThread("sub");
  assert.equal(reservation.chargedThread(), "agent");
  reservation.commit(100, 0);
  assert.equal(registry.getUsage("agent")?.totalTokens, 100);
});

test("a forgotten reservation is released when it is collected", async () => {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  (() => void registry.reserve("a", 800))();
  for (let tries = 0; tries < 50 && registry.heldTokens("a") !== 0; tries++) {
    globalThis.gc!();
    await setTimeout(10);
  }
  assert.equal(registry.heldTokens("a"), 0);
});
