import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { InstanceLostError, Registry } from "thread-budget";

test("a call that breaks off within the component loses the instance, and nothing else", async () => {
  const registry = new Registry();
  registry.getBudget("forgotten");
  const hold = registry.hold("a", "r", 10, 0);
  let lost: unknown;
  // Down to where the stack ends, and a call from every frame on the way back: one breaks off half-way.
  const descend = () => {
    try {
      descend();
    } catch {
      // The stack is used up.
    }
    try {
      if (!lost) registry.consume("a", 1, 1);
    } catch (error) {
      if (error instanceof InstanceLostError) lost = error;
    }
  };
  descend();
  assert.ok(lost instanceof InstanceLostError);
  assert.ok(lost.cause);
  assert.throws(() => registry.hasBudget("a"), InstanceLostError);
  assert.throws(() => hold.settle(1, 1), InstanceLostError);
  hold[Symbol.dispose]();
  globalThis.gc!();
  await setTimeout(20);

  assert.equal(new Registry().consume("a", 1, 1).usage.totalTokens, 2);
});

test("calls leave nothing behind", async () => {
  const registry = new Registry({ maxTokensPerThread: 2n ** 60n });
  const calls = async (times: number) => {
    for (let made = 0; made < times; made++) {
      registry.hold("a", "r", 900, 100).settle(900, 100);
      registry.pendingWarnings("a");
      using _budget = registry.getBudget("a");
    }
    await setTimeout(20);
    globalThis.gc!();
    return process.memoryUsage().heapUsed;
  };
  const before = await calls(20_000);
  const grown = (await calls(20_000)) - before;
  assert.ok(grown < 2 ** 20, `${grown} bytes more after 20,000 rounds`);
});

test("the README's example of a hold runs as it is", async () => {
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const [, example] = /## The registry\s+```js\n(.*?)```/s.exec(readme)!;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", example!]);
  assert.match(stdout, /tokens are used, \d+ more do not fit; the agent was told:\nNote: [^]*WARNING: /);
});

test("the example stops at the limit, warned on the way", async () => {
  const example = fileURLToPath(new URL("../../examples/chat.mjs", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [example]);
  assert.match(stdout, /Note: 7\d%[^]*WARNING: 9\d%/);
  assert.match(stdout, /stopped: thread agent-7: .* do not fit/);
});
