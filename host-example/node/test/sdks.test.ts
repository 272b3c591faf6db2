import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import Anthropic, { BadRequestError as AnthropicBadRequest } from "@anthropic-ai/sdk";
import OpenAI, { APIError, APIUserAbortError, APIConnectionTimeoutError, BadRequestError, InternalServerError } from "openai";
import { Registry } from "thread-budget";
import { budgetFetch, type Settings } from "thread-budget/fetch";

// The packages `openai` and `@anthropic-ai/sdk` within budgets, without a router, in front of a stand-in for the
// providers: `tests/src/provider.rs` as a process.

const LIMIT = 10_000;
const HELLO = [{ role: "user" as const, content: "Hello" }];
const PROGRAM = "../../target/release/stub_provider";

let stub: ReturnType<typeof spawn>;
let url: string;
let registry: Registry;

before(async () => {
  assert.ok(existsSync(PROGRAM), `${PROGRAM} is not there: cargo build --release --workspace`);
  stub = spawn(PROGRAM, { stdio: ["ignore", "pipe", "inherit"] });
  [url] = (await once(createInterface(stub.stdout!), "line")) as [string];
});

after(() => {
  stub.kill();
});

beforeEach(async () => {
  registry = new Registry({ maxTokensPerThread: LIMIT });
  await fetch(`${url}/stub/requests`, { method: "DELETE" });
});

function openai(settings: Settings = {}): OpenAI {
  const fetch = budgetFetch(registry, { thread: "agent-7", settings, log: () => {} });
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "k", maxRetries: 0, fetch });
}

function anthropic(): Anthropic {
  const fetch = budgetFetch(registry, { thread: "agent-7", log: () => {} });
  return new Anthropic({ baseURL: url, apiKey: "k", maxRetries: 0, fetch });
}

/** What the provider was asked. */
async function bodies(): Promise<{ max_tokens?: number }[]> {
  const response = await fetch(`${url}/stub/requests`);
  return ((await response.json()) as { body: object }[]).map(({ body }) => body);
}

/** All that the requests say. */
async function texts(): Promise<string[]> {
  return (await bodies()).map((body) => JSON.stringify(body));
}

/** Prompt and completion tokens used; nothing is held any more. */
function used(thread = "agent-7"): [number, number] {
  assert.equal(registry.heldTokens(thread), 0);
  const usage = registry.getUsage(thread);
  return [Number(usage?.promptTokens ?? 0), Number(usage?.completionTokens ?? 0)];
}

const sum = ([prompt, completion]: [number, number]): number => prompt + completion;

/** Reads a stream that is to be cut. */
async function read(stream: AsyncIterable<unknown>): Promise<number> {
  let events = 0;
  for await (const _ of stream) assert.ok(events++ < 100 * LIMIT, "it is not cut");
  return events;
}

test("a request is counted, and the agent is warned once", async () => {
  const client = openai();
  let tokens = 0;
  for (const words of [7_600, 1, 1]) {
    const request = client.chat.completions.create({ model: `stub-words-${words}`, messages: HELLO, max_tokens: words });
    const { data, response } = await request.withResponse();
    tokens += data.usage!.total_tokens;
    assert.equal(response.headers.get("x-ratelimit-remaining-tokens"), String(LIMIT - tokens));
  }
  assert.equal(sum(used()), tokens);
  const [before, warned, after] = await texts();
  assert.doesNotMatch(before!, /token budget/);
  assert.match(warned!, /% of the token budget is used/);
  assert.doesNotMatch(after!, /token budget/);
});

test("a budget that is used up is the SDK's error", async () => {
  registry.consume("agent-7", LIMIT, 0);
  for (const stream of [false, true]) {
    await assert.rejects(
      async () => openai().chat.completions.create({ model: "stub", messages: HELLO, stream }),
      (error) => error instanceof BadRequestError && error.code === "budget_exhausted" && /agent-7 has used 10,000 of 10,000/.test(error.message),
    );
  }
  assert.deepEqual(await bodies(), []);
});

test("a stream that uses the budget up is cut", async () => {
  registry.setLimit("agent-7", 500);
  const stream = await openai().chat.completions.create({ model: "stub-endless", messages: HELLO, stream: true });
  await assert.rejects(read(stream), (error) => error instanceof APIError && error.code === "budget_exhausted");
  assert.ok(sum(used()) >= 500);
});

test("a stream is passed on as it comes, and counted", async () => {
  const stream = await openai().chat.completions.create({ model: "stub-slow-100ms", messages: HELLO, stream: true });
  let words = "";
  for await (const { choices } of stream) {
    if (words === "") assert.ok(registry.heldTokens("agent-7") > 0, "it has come to its end before it was read");
    words += choices[0]?.delta.content ?? "";
  }
  assert.equal(words.trim().split(/\s+/).length, 16);
  assert.equal(used()[1], 16);
});

test("a stream that is left is counted as far as it came", async () => {
  const begin = async () => {
    const stream = await openai().chat.completions.create({ model: "stub-slow-30ms-words-500", messages: HELLO, stream: true });
    const events = stream[Symbol.asyncIterator]();
    for (let event = 0; event < 10; event++) await events.next();
    return { stream, events };
  };
  const { events } = await begin();
  await events.return?.();
  const [prompt, completion] = used();
  assert.ok(prompt > 0 && completion >= 5 && completion < 400, `${prompt} and ${completion}`);
  const aborted = await begin();
  aborted.stream.controller.abort();
  assert.equal(used()[0], 2 * prompt);
});

test("a stream that is forgotten is counted as far as it came", async () => {
  const begin = async () => {
    const send = budgetFetch(registry, { thread: "agent-7" });
    const body = JSON.stringify({ model: "stub-slow-30ms-words-500", messages: HELLO, stream: true });
    const response = await send(`${url}/v1/chat/completions`, { method: "POST", body });
    await response.body!.getReader().read();
  };
  await begin();
  assert.ok(registry.heldTokens("agent-7") > 0);
  for (let tries = 0; registry.heldTokens("agent-7") > 0 && tries < 100; tries++) {
    (globalThis as { gc?: () => void }).gc!();
    await sleep(10);
  }
  assert.ok(used()[0] > 0);
});

test("what is cancelled is charged", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const answer = openai().chat.completions.create({ model: "stub-slow-10000ms", messages: HELLO }, { signal });
  while ((await bodies()).length === 0) await sleep(20);
  assert.ok(registry.heldTokens("agent-7") > 0);
  controller.abort();
  await assert.rejects(answer, APIUserAbortError);
  const [prompt, completion] = used();
  assert.ok(prompt > 0);
  assert.equal(completion, 0);
});

test("a client that waits no longer gets its own error", async () => {
  const answer = openai().chat.completions.create({ model: "stub-slow-5000ms", messages: HELLO }, { timeout: 200 });
  await assert.rejects(answer, APIConnectionTimeoutError);
  assert.ok(used()[0] > 0);
});

test("a provider that takes too long for the settings", async () => {
  const client = openai({ first_byte_timeout_ms: 200, idle_timeout_ms: 200, connect_timeout_ms: 200 });
  await assert.rejects(
    client.chat.completions.create({ model: "stub-slow-5000ms", messages: HELLO }),
    (error) => error instanceof InternalServerError && (error.status as number) === 504 && /no upstream answered/.test(error.message),
  );
  assert.ok(used()[0] > 0);
});

test("what may pass is tried again, and counted once", async () => {
  const { usage } = await openai({ retry_pause_ms: 1 }).chat.completions.create({ model: "stub-fail-twice", messages: HELLO });
  assert.equal((await bodies()).length, 3);
  assert.equal(sum(used()), usage!.total_tokens);
});

test("a provider's error costs nothing, and what has no budget passes", async () => {
  await assert.rejects(openai().chat.completions.create({ model: "stub-error-400", messages: HELLO }), BadRequestError);
  assert.deepEqual(used(), [0, 0]);
  assert.ok((await openai().models.list()).data.length > 0);
});

test("a stream that breaks off does not end as if it were whole", async () => {
  const stream = await openai().chat.completions.create({ model: "stub-broken-stream", messages: HELLO, stream: true });
  await assert.rejects(read(stream), (error) => error instanceof APIError && /broke/.test(error.message));
  assert.ok(used()[1] > 0);
});

test("a header names another thread, and a child counts in its parent", async () => {
  registry.openThread("session", { maxTokens: 300 });
  registry.openThread("session/agent", { parent: "session" });
  const headers = { "X-Thread-Id": "session/agent" };
  const ask = () => openai().chat.completions.create({ model: "stub", messages: HELLO }, { headers });
  await ask();
  assert.deepEqual(used("session"), used("session/agent"));
  assert.ok(sum(used("session")) > 0);
  assert.equal(registry.hasBudget("agent-7"), false);
  registry.consume("session", 300, 0);
  await assert.rejects(ask(), (error) => error instanceof BadRequestError && /thread session has used/.test(error.message));
});

test("the last call that fits is said to be one", async () => {
  registry.consume("agent-7", LIMIT - 500, 0);
  await openai().chat.completions.create({ model: "stub", messages: HELLO, max_tokens: 600 });
  const [body] = await bodies();
  assert.ok(body!.max_tokens! < 500);
  assert.match(JSON.stringify(body), /This is the last request/);
});

test("Anthropic's messages", async () => {
  const client = anthropic();
  for (const words of [7_600, 1, 1]) {
    await client.messages.create({ model: `stub-words-${words}`, messages: HELLO, max_tokens: words, system: "Be brief." });
  }
  const [before, warned, after] = await texts();
  assert.doesNotMatch(before!, /token budget/);
  assert.match(warned!, /% of the token budget is used/);
  assert.doesNotMatch(after!, /token budget/);
  const stream = await client.messages.create({ model: "stub-endless", messages: HELLO, max_tokens: 100_000, stream: true });
  await assert.rejects(read(stream), /budget_exhausted/);
  assert.ok(sum(used()) >= LIMIT);
  await assert.rejects(
    client.messages.create({ model: "stub", messages: HELLO, max_tokens: 100 }),
    (error) => error instanceof AnthropicBadRequest && /token budget: thread agent-7/.test(error.message),
  );
});

test("the README's example", async () => {
  const [, example] = /^```js\n(.*?budgetFetch.*?)^```$/ms.exec(readFileSync("README.md", "utf8"))!;
  writeFileSync("build/readme.mjs", example!.replace("gpt-5", "stub"));
  const env = { ...process.env, OPENAI_BASE_URL: `${url}/v1`, OPENAI_API_KEY: "k" };
  const { stdout } = await promisify(execFile)(process.execPath, ["build/readme.mjs"], { env });
  assert.match(stdout, /requestCount: 1/);
});

test("requests at the same time do not pass a limit together", async () => {
  const client = openai({ hold_wait_ms: 0 });
  const refused = new Set<unknown>();
  const ask = async () => {
    for (let turn = 0; turn < 10; turn++) {
      await client.chat.completions.create({ model: "stub-slow-5ms-words-200", messages: HELLO, max_tokens: 200 }).catch((error: APIError) => refused.add(error.code));
    }
  };
  await Promise.all(Array.from({ length: 8 }, ask));
  assert.deepEqual([...refused], ["budget_exhausted"]);
  // What the notes to the agent take of a prompt, no estimate knew.
  assert.ok(sum(used()) > LIMIT / 2 && sum(used()) <= LIMIT * 1.05, String(used()));
});
