import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Registry } from "thread-budget";
import { budgetFetch, type BudgetFetchOptions, type LogEntry } from "thread-budget/fetch";

// What a `fetch` with budgets does with requests and answers, in front of a provider that a test makes up.

const USAGE = { prompt_tokens: 30, completion_tokens: 12, total_tokens: 42 };
const BODY = { model: "m", max_tokens: 50, messages: [{ role: "user", content: "Hello" }] };
const CHAT = "https://provider/v1/chat/completions";

type Sent = { url: string; headers: Headers; body: string };

/** A registry, and what posts to a provider that gives these answers. */
function fresh(answer: (sent: Sent) => Response | Promise<Response> = () => Response.json({ usage: USAGE }), options: BudgetFetchOptions = {}) {
  const registry = new Registry({ maxTokensPerThread: 1_000 });
  const sent: Sent[] = [];
  const logged: LogEntry[] = [];
  const send = budgetFetch(registry, {
    thread: "a",
    log: (entry) => logged.push(entry),
    ...options,
    fetch: async (url, init) => {
      const body = new TextDecoder().decode((init!.body ?? new Uint8Array()) as Uint8Array);
      sent.push({ url: String(url), headers: init!.headers as Headers, body });
      return answer(sent.at(-1)!);
    },
  });
  const post = (body: object = BODY, headers: Record<string, string> = {}, url = CHAT) =>
    send(url, { method: "POST", body: JSON.stringify(body), headers });
  const used = (thread = "a") => {
    assert.equal(registry.heldTokens(thread), 0);
    return Number(registry.getUsage(thread)?.totalTokens ?? 0);
  };
  return { registry, sent, logged, send, post, used };
}

async function errorOf(response: Response): Promise<{ message: string; type: string }> {
  return ((await response.json()) as { error: { message: string; type: string } }).error;
}

/** What `fetch` throws when it cannot connect. */
function unreachable(): never {
  throw new TypeError("fetch failed", { cause: Object.assign(new Error("refused"), { code: "ECONNREFUSED" }) });
}

test("headers go along, but for those that are ours", async () => {
  const answer = () => Response.json({ usage: USAGE }, { headers: { "x-id": "1", "keep-alive": "5" } });
  const { sent, post, used } = fresh(answer);
  const response = await post(BODY, { "x-thread-id": "b", "x-mine": "2", connection: "x-hop", "x-hop": "3", authorization: "Bearer k" });
  const [{ headers }] = sent as [Sent];
  assert.deepEqual(
    ["x-mine", "authorization", "accept-encoding", "x-thread-id", "x-hop"].map((name) => headers.get(name)),
    ["2", "Bearer k", "identity", null, null],
  );
  assert.deepEqual(await response.json(), { usage: USAGE });
  assert.deepEqual(["x-id", "x-ratelimit-remaining-tokens", "keep-alive"].map((name) => response.headers.get(name)), ["1", "958", null]);
  assert.deepEqual([used(), used("b")], [0, 42]);
});

test("what is coded is counted, and decoded once", async () => {
  const server = createServer((_, response) => {
    response.writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" });
    response.end(gzipSync(JSON.stringify({ usage: USAGE })));
  }).listen(0);
  await once(server, "listening");
  const registry = new Registry();
  const send = budgetFetch(registry, { thread: "a" });
  const { port } = server.address() as AddressInfo;
  const response = await send(new Request(`http://127.0.0.1:${port}/v1/chat/completions`, { method: "POST", body: JSON.stringify(BODY) }));
  assert.deepEqual(await response.json(), { usage: USAGE });
  assert.equal(registry.getUsage("a")?.totalTokens, 42);
  server.close();
  server.closeAllConnections();
});

test("a request goes where its client means it to", async () => {
  for (const [url, base] of [
    ["https://api.openai.com/v1/chat/completions"],
    ["https://openrouter.ai/api/v1/chat/completions?x=1"],
    ["http://[::1]:8080/v1/chat/completions"],
    ["https://api.anthropic.com/v1/messages?beta=true"],
    ["https://api.z.ai/api/anthropic/v1/messages"],
    ["https://x.azure.com/openai/deployments/d/chat/completions?api-version=1", "https://x.azure.com/openai/deployments/d"],
    ["https://g.com/v1beta/openai/chat/completions", "https://g.com/v1beta/openai/"],
    ["https://other.com/v1/chat/completions", "https://g.com/v1beta/openai"],
  ] as [string, string?][]) {
    const { sent, post, used } = fresh(undefined, base ? { settings: { upstreams: [{ url: base }] } } : {});
    assert.equal((await post(BODY, {}, url)).status, 200);
    assert.deepEqual(sent.map(({ url }) => url), [url]);
    assert.ok(used() > 0);
  }
});

test("what is no API's path, names no thread or is too long goes nowhere", async () => {
  const { sent, post } = fresh();
  const elsewhere = await post(BODY, {}, "https://provider/chat/completions");
  assert.equal(elsewhere.status, 404);
  assert.match((await errorOf(elsewhere)).message, /begin with \/v1/);
  const nameless = fresh(undefined, { thread: undefined });
  const refused = await nameless.post();
  assert.equal(refused.status, 400);
  assert.match((await errorOf(refused)).message, /x-thread-id/);
  const short = fresh(undefined, { settings: { max_request_bytes: 10 } });
  assert.equal((await short.post()).status, 413);
  assert.deepEqual([...sent, ...nameless.sent, ...short.sent], []);
});

test("settings that are wrong", () => {
  const registry = new Registry();
  for (const [settings, said] of [
    [{ retrys: 1 }, /unknown field `retrys`/],
    [{ thresholds: [] }, /thresholds are set where the registry is made/],
    [{ upstreams: [{ url: "provider" }] }, /expected http/],
    [{ upstreams: [{ url: "https://provider", key_env: "NO_SUCH_KEY" }] }, /NO_SUCH_KEY/],
  ] as const) {
    assert.throws(() => budgetFetch(registry, { settings }), (error) => error instanceof RangeError && said.test(error.message));
  }
  for (const thread of ["", " a", "a\nb"]) assert.throws(() => budgetFetch(registry, { thread }), RangeError);
});

test("a thread may be named in any letters", async () => {
  const { post, used } = fresh(undefined, { thread: "Gespräch 7 – ☕" });
  assert.equal((await post()).status, 200);
  assert.equal(used("Gespräch 7 – ☕"), 42);
});

test("a provider may have a key of its own", async () => {
  process.env["PROVIDER_KEY"] = "own";
  const { sent, post } = fresh(undefined, { settings: { upstreams: [{ url: "https://provider/v1", key_env: "PROVIDER_KEY" }] } });
  await post(BODY, { authorization: "Bearer client" });
  assert.equal(sent[0]!.headers.get("authorization"), "Bearer own");
});

test("the next provider is asked where one fails", async () => {
  const upstreams = [{ url: "https://provider/v1" }, { url: "https://other/v1" }];
  const answer = ({ url }: Sent) => (url.startsWith("https://provider") ? unreachable() : Response.json({ usage: USAGE }));
  const { sent, logged, post, used } = fresh(answer, { settings: { upstreams, retries: 1, retry_pause_ms: 1 } });
  assert.equal((await post()).status, 200);
  assert.deepEqual(sent.map(({ url }) => new URL(url).host), ["provider", "provider", "other"]);
  assert.equal(used(), 42);
  assert.match(logged[0]!.text, /upstream https:\/\/provider\/v1/);
});

test("what may have been billed is charged", async () => {
  const reset = () => Promise.reject(new TypeError("fetch failed", { cause: Object.assign(new Error("reset"), { code: "ECONNRESET" }) }));
  for (const [answer, isLost] of [[unreachable, false], [reset, true]] as const) {
    const { post, used } = fresh(answer, { settings: { retries: 0 } });
    const response = await post();
    assert.equal(response.status, 502);
    assert.equal((await errorOf(response)).type, "upstream_error");
    assert.equal(used() > 0, isLost);
  }
});

test("lost calls cost what the settings say", async () => {
  const costs = async (lost_calls: "prompt" | "all" | "nothing") => {
    const { post, used } = fresh(() => Promise.reject(new TypeError("fetch failed")), { settings: { retries: 0, lost_calls } });
    await post();
    return used();
  };
  const [nothing, prompt, all] = [await costs("nothing"), await costs("prompt"), await costs("all")];
  assert.equal(nothing, 0);
  assert.equal(all, prompt + 50);
});

test("an idempotency key is in one request at a time", async () => {
  const again = (body: object) => post(body, { "idempotency-key": "k" }).then(({ status }) => status);
  let statuses: number[] | undefined;
  const { post, used } = fresh(async () => {
    statuses ??= [await again(BODY), await again({ ...BODY, user: "u" })];
    return Response.json({ usage: USAGE });
  });
  assert.equal(await again(BODY), 200);
  assert.deepEqual(statuses, [409, 422]);
  assert.equal(await again(BODY), 200);
  assert.equal(used(), 84);
});

test("a response in the background is held until it is asked for, or charged", async () => {
  const url = "https://provider/v1/responses";
  const body = { model: "m", input: "Hello", background: true, max_output_tokens: 50 };
  let status = "queued";
  const usage = { input_tokens: 30, output_tokens: 12, total_tokens: 42 };
  const answer = () => Response.json({ id: "resp_1", status, ...(status === "completed" && { usage }) });
  const { registry, send, post, used } = fresh(answer);
  assert.equal((await post(body, {}, url)).status, 200);
  assert.ok(registry.heldTokens("a") > 0);
  status = "completed";
  for (let times = 0; times < 2; times++) {
    await (await send(`${url}/resp_1`)).text();
    assert.equal(used(), 42);
  }
  status = "queued";
  const overdue = fresh(answer, { settings: { background_timeout_ms: 0 } });
  await overdue.post(body, {}, url);
  const held = overdue.registry.heldTokens("a");
  await overdue.send("https://provider/v1/models");
  assert.equal(overdue.used(), held);
  assert.ok(held > 50);
});

test("threads share what the settings say", async () => {
  const { registry, post } = fresh(undefined, { settings: { scopes: [{ by: "header", header: "x-team", limit: 300 }] } });
  const statuses = [];
  for (const thread of "abcabcabc") statuses.push((await post(BODY, { "x-team": "red", "x-thread-id": thread })).status);
  assert.deepEqual(statuses, [200, 200, 200, 200, 200, 400, 400, 400, 400]);
  const used = registry.getAllUsage();
  assert.deepEqual(used.map(([, { totalTokens }]) => Number(totalTokens)).sort((a, b) => a - b), [42, 84, 84, 210]);
  assert.ok(used.every(([thread]) => thread.includes("red")));
});

test("the policy has the registry's thresholds of now", async () => {
  const { registry, post } = fresh();
  registry.setThresholds([{ percent: 100, severity: "final" }]);
  registry.consume("a", 1_000, 0);
  assert.equal((await post()).headers.get("x-budget-warning"), "final");
});

test("one that is aborted before it begins costs nothing", async () => {
  const { send, sent, used } = fresh();
  await assert.rejects(send(CHAT, { method: "POST", body: JSON.stringify(BODY), signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(used(), 0);
  assert.deepEqual(sent, []);
});

test("a stream is cancelled at the provider, too", async () => {
  let isCancelled = false;
  const events = new ReadableStream({
    pull: (controller) => controller.enqueue(new TextEncoder().encode('data: {"choices":[{"delta":{"content":"a word"}}]}\n\n')),
    cancel: () => void (isCancelled = true),
  });
  const { post, used } = fresh(() => new Response(events, { headers: { "content-type": "text/event-stream" } }));
  const response = await post({ ...BODY, stream: true });
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  assert.ok(used() > 0);
  assert.equal(isCancelled, true);
});
