// The cases of the package `openai`, which nothing but its base URL tells that there is a router.

import assert from "node:assert/strict";
import OpenAI, { APIError, BadRequestError, NotFoundError, RateLimitError } from "openai";
import { VERSION } from "openai/version";
import { ARGUMENTS, LIMIT, WEATHER, incremental, rejection, run, test, warningsIn } from "./cases.mjs";

const CHAT_TOOL = { type: "function", function: { name: "weather", parameters: WEATHER } };
const RESPONSES_TOOL = { type: "function", name: "weather", parameters: WEATHER, strict: false };
const ONLY_ROUTER = { needsRouter: true };

/** A client as anybody would make one; its `fetch` notes what is sent. */
function clientOf(world) {
  return new OpenAI({
    baseURL: `${world.baseUrl}/v1`,
    apiKey: "sk-stub",
    defaultHeaders: { "x-thread-id": world.thread },
    fetch(url, init) {
      world.sent.push(new URL(url).pathname);
      return fetch(url, init);
    },
  });
}

const say = (content) => [{ role: "user", content }];

function isRefusal(error) {
  assert.equal(error.status, 429);
  assert.equal(error.code, "budget_exhausted");
  assert.equal(error.type, "budget_exhausted");
}

/** All of a stream; fail when it never ends. */
async function all(stream) {
  const items = [];
  for await (const item of stream) {
    items.push(item);
    assert.ok(items.length < 10 * LIMIT, "it does not end");
  }
  return items;
}

test("chat", async (world) => {
  const request = { model: "stub", messages: say("Hello"), user: "u" };
  const { data, response } = await clientOf(world).chat.completions.create(request).withResponse();
  const billed = await world.stub.billed();
  assert.equal(data.usage.prompt_tokens, billed.prompt_tokens);
  assert.equal(data.usage.completion_tokens, billed.completion_tokens);
  assert.match(data.choices[0].message.content, /^tokens flow/);
  const [received] = await world.stub.requests();
  assert.equal(received.headers.authorization, "Bearer sk-stub");
  assert.deepEqual(received.body, request);
  if (world.throughRouter) {
    const total = data.usage.total_tokens;
    assert.equal(response.headers.get("x-ratelimit-limit-tokens"), `${LIMIT}`);
    assert.equal(response.headers.get("x-ratelimit-remaining-tokens"), `${LIMIT - total}`);
    assert.equal(Number(response.headers.get("x-budget-used-percent")).toFixed(1), ((total / LIMIT) * 100).toFixed(1));
    assert.equal(response.headers.get("x-budget-warning"), null);
  }
});

test("chat stream", async (world) => {
  const request = { model: "stub-slow-20ms", messages: say("Hello"), stream: true };
  const chunks = await incremental(await clientOf(world).chat.completions.create(request));
  assert.ok(chunks.every(({ choices, usage }) => choices.length === 1 && !usage));
  const text = chunks.map(({ choices }) => choices[0].delta.content ?? "").join("");
  assert.equal(text.trim().split(" ").length, 16);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
});

test("chat stream with usage", async (world) => {
  const stream = await clientOf(world).chat.completions.create({
    model: "stub",
    messages: say("Hello"),
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = await all(stream);
  assert.equal(chunks.filter(({ choices }) => choices.length === 0).length, 1);
  const { usage } = chunks.at(-1);
  assert.equal(usage.completion_tokens, 16);
  assert.equal(usage.prompt_tokens, (await world.stub.billed()).prompt_tokens);
});

test("chat tools", async (world) => {
  const client = clientOf(world);
  const messages = say("Weather?");
  const ask = () => client.chat.completions.create({ model: "stub-tool", messages, tools: [CHAT_TOOL] });
  const { message } = (await ask()).choices[0];
  const [call] = message.tool_calls;
  assert.deepEqual(JSON.parse(call.function.arguments), ARGUMENTS);
  messages.push(message, { role: "tool", tool_call_id: call.id, content: "rain" });
  assert.equal((await ask()).choices[0].finish_reason, "stop");

  const streamed = await client.chat.completions
    .stream({ model: "stub-tool", messages: say("Weather?"), tools: [CHAT_TOOL] })
    .finalMessage();
  assert.deepEqual(JSON.parse(streamed.tool_calls[0].function.arguments), ARGUMENTS);
});

test("chat refusal", async (world) => {
  for (const stream of [false, true]) {
    world.sent.length = 0;
    const request = { model: "stub", messages: say("Hello"), max_tokens: LIMIT, stream };
    const error = await rejection(clientOf(world).chat.completions.create(request), RateLimitError);
    isRefusal(error);
    assert.equal(error.headers.get("x-ratelimit-remaining-tokens"), `${LIMIT}`);
    assert.deepEqual(world.sent, ["/v1/chat/completions"]);
  }
  assert.deepEqual(await world.stub.requests(), []);
}, ONLY_ROUTER);

test("chat warning", async (world) => {
  const client = clientOf(world);
  const ask = (tokens) =>
    client.chat.completions
      .create({ model: `stub-words-${tokens}`, messages: say("Hello"), max_tokens: tokens })
      .withResponse();
  assert.equal((await ask(790)).response.headers.get("x-budget-warning"), "warning");
  await ask(1);
  await ask(1);
  const [before, warned, after] = (await world.stub.bodies()).map(({ messages }) => messages);
  assert.deepEqual(before, say("Hello"));
  assert.deepEqual(after, say("Hello"));
  assert.equal(warned.length, 2);
  assert.deepEqual(warned.filter(({ role }) => role === "user"), say("Hello"));
  const warnings = warningsIn(warned.filter(({ role }) => role === "system").map(({ content }) => content));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /^Note: 79%/);
}, ONLY_ROUTER);

test("chat warning and tools", async (world) => {
  const client = clientOf(world);
  const request = { model: "stub-tool", max_tokens: 16, tools: [CHAT_TOOL] };
  const messages = say(`Weather? ${"x".repeat(3_100)}`);
  const { message } = (await client.chat.completions.create({ ...request, messages })).choices[0];
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "rain" };
  await client.chat.completions.create({ ...request, messages: [...say("Weather?"), message, result] });
  const [, { messages: warned }] = await world.stub.bodies();
  assert.equal(warningsIn(warned.map(({ content }) => content)).length, 1);
  const roles = warned.map(({ role }) => role);
  assert.equal(roles.indexOf("tool"), roles.indexOf("assistant") + 1);
  assert.deepEqual(roles.filter((role) => role !== "system"), ["user", "assistant", "tool"]);
}, ONLY_ROUTER);

test("chat stream that passes the budget", async (world) => {
  const request = { model: "stub-endless", messages: say("Go on"), max_tokens: 500, stream: true };
  const stream = await clientOf(world).chat.completions.create(request);
  const error = await rejection(all(stream), APIError);
  assert.equal(error.code, "budget_exhausted");
  assert.equal(error.type, "budget_exhausted");
}, ONLY_ROUTER);

test("chat counted once", async (world) => {
  const client = clientOf(world);
  const remaining = [];
  for (const key of ["a", "a", "b"]) {
    const { response } = await client.chat.completions
      .create({ model: "stub", messages: say("Hello") }, { headers: { "Idempotency-Key": key } })
      .withResponse();
    remaining.push(Number(response.headers.get("x-ratelimit-remaining-tokens")));
  }
  assert.equal(remaining[0], remaining[1]);
  assert.equal(remaining[0] - remaining[2], LIMIT - remaining[0]);
}, ONLY_ROUTER);

test("provider's errors", async (world) => {
  const client = clientOf(world);
  const ask = (model) => client.chat.completions.create({ model, messages: say("Hello") });
  assert.equal((await rejection(ask("stub-error-400"), BadRequestError)).type, "invalid_request_error");
  assert.equal((await rejection(ask("no-such-model"), NotFoundError)).code, "model_not_found");
  assert.deepEqual(world.sent, ["/v1/chat/completions", "/v1/chat/completions"]);
});

test("provider fails twice", async (world) => {
  await clientOf(world).chat.completions.create({ model: "stub-fail-twice", messages: say("Hello") });
  assert.equal((await world.stub.requests()).length, 3);
  assert.equal(world.sent.length, world.throughRouter ? 1 : 3);
});

test("connection dies", async (world) => {
  const request = { model: "stub-broken-stream", messages: say("Hello"), stream: true };
  const error = await rejection(all(await clientOf(world).chat.completions.create(request)), Error);
  assert.notEqual(error.code, "budget_exhausted");
});

test("models", async (world) => {
  assert.equal((await all(clientOf(world).models.list()))[0].id, "stub");
});

test("responses", async (world) => {
  const request = { model: "stub", input: "Hello", instructions: "Be brief." };
  const { data, response } = await clientOf(world).responses.create(request).withResponse();
  assert.equal(data.usage.input_tokens, (await world.stub.billed()).prompt_tokens);
  assert.equal(data.usage.output_tokens, 16);
  assert.match(data.output_text, /^tokens flow/);
  if (world.throughRouter) {
    assert.equal(response.headers.get("x-ratelimit-remaining-tokens"), `${LIMIT - data.usage.total_tokens}`);
  }
});

test("responses stream", async (world) => {
  const client = clientOf(world);
  const events = await incremental(
    await client.responses.create({ model: "stub-slow-20ms", input: "Hello", stream: true }),
  );
  assert.deepEqual(events.map(({ sequence_number }) => sequence_number), [...events.keys()]);
  assert.equal(events[0].type, "response.created");
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal(events.at(-1).response.usage.output_tokens, 16);
  const deltas = events.filter(({ type }) => type === "response.output_text.delta").map(({ delta }) => delta);
  const helper = await client.responses.stream({ model: "stub", input: "Hello" }).finalResponse();
  assert.equal(helper.output_text, deltas.join(""));
});

test("responses tools", async (world) => {
  const client = clientOf(world);
  const input = [{ role: "user", content: "Weather?" }];
  const ask = () => client.responses.create({ model: "stub-tool", input, tools: [RESPONSES_TOOL] });
  const [call] = (await ask()).output;
  assert.deepEqual(JSON.parse(call.arguments), ARGUMENTS);
  input.push(call, { type: "function_call_output", call_id: call.call_id, output: "rain" });
  assert.ok((await ask()).output_text);
});

test("responses refusal", async (world) => {
  const request = { model: "stub", input: "Hello", max_output_tokens: LIMIT };
  isRefusal(await rejection(clientOf(world).responses.create(request), RateLimitError));
  assert.deepEqual(world.sent, ["/v1/responses"]);
  assert.deepEqual(await world.stub.requests(), []);
}, ONLY_ROUTER);

test("responses warning", async (world) => {
  const client = clientOf(world);
  for (const words of [790, 1, 1]) {
    await client.responses.create({ model: `stub-words-${words}`, input: "Hello", max_output_tokens: words });
  }
  const [before, warned, after] = (await world.stub.bodies()).map(({ input }) => input);
  assert.equal(before, "Hello");
  assert.equal(after, "Hello");
  const told = warned.filter(({ role }) => role !== "user").map(({ content }) => content[0].text ?? content);
  assert.equal(warningsIn(told).length, 1);
  assert.equal(warned.filter(({ role }) => role === "user").length, 1);
}, ONLY_ROUTER);

test("responses stream that passes the budget", async (world) => {
  const request = { model: "stub-endless", input: "Go on", max_output_tokens: 500, stream: true };
  const stream = await clientOf(world).responses.create(request);
  const outcome = await all(stream).catch((error) => error);
  // The form that the API documents does not raise: the last event says it.
  const last = outcome instanceof APIError ? outcome : outcome.at(-1);
  assert.equal(last.code, "budget_exhausted");
}, ONLY_ROUTER);

await run(`openai ${VERSION}, Node`);
