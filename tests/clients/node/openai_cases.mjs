// The cases of the package `openai`, which nothing but its base URL tells that there is a router.

import assert from "node:assert/strict";
import OpenAI, { APIError, BadRequestError, NotFoundError, UnprocessableEntityError } from "openai";
import { VERSION } from "openai/version";
import { ARGUMENTS, LIMIT, WEATHER, announced, incremental, rejection, reminded, run, test } from "./cases.mjs";

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
  assert.equal(error.status, 400);
  assert.equal(error.code, "budget_exhausted");
  assert.equal(error.type, "budget_exhausted");
}

/** Use so much of the thread's budget, and forget that. */
async function use(client, world, tokens) {
  const request = { model: `stub-words-${tokens}`, messages: say("Hello"), max_tokens: tokens };
  await client.chat.completions.create(request);
  await world.stub.clear();
  world.sent.length = 0;
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
  const client = clientOf(world);
  await use(client, world, 19_900);
  for (const stream of [false, true]) {
    world.sent.length = 0;
    const request = { model: "stub", messages: say("Hello"), stream };
    const error = await rejection(client.chat.completions.create(request), BadRequestError);
    isRefusal(error);
    assert.match(error.message, /97 are left/);
    assert.equal(error.headers.get("x-ratelimit-remaining-tokens"), "97");
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
  assert.equal((await ask(15_800)).response.headers.get("x-budget-warning"), "warning");
  await ask(1);
  await ask(1);
  const [before, warned, after] = (await world.stub.bodies()).map(({ messages }) => messages);
  assert.deepEqual(before, say("Hello"));
  for (const [[message, ...others], told] of [[warned, announced], [after, reminded]]) {
    assert.deepEqual(others, []);
    assert.equal(message.role, "user");
    assert.match(message.content, /^Hello\n\n/);
    assert.match(message.content, told(79));
  }
}, ONLY_ROUTER);

test("chat warning and tools", async (world) => {
  const client = clientOf(world);
  await use(client, world, 15_800);
  const called = { name: "weather", arguments: JSON.stringify(ARGUMENTS) };
  const call = { role: "assistant", tool_calls: [{ id: "c", type: "function", function: called }] };
  const messages = [...say("Weather?"), call, { role: "tool", tool_call_id: "c", content: "rain" }];
  await client.chat.completions.create({ model: "stub-tool", messages, tools: [CHAT_TOOL], max_tokens: 16 });
  const [{ messages: warned }] = await world.stub.bodies();
  assert.deepEqual(warned.slice(0, 2), messages.slice(0, 2));
  assert.match(warned[2].content, /^rain\n\n/);
  assert.match(warned[2].content, announced(79));
  assert.equal(warned.length, 3);
}, ONLY_ROUTER);

test("chat last request", async (world) => {
  const client = clientOf(world);
  await use(client, world, 19_500);
  const request = { model: "stub-tool", messages: say("Weather?"), tools: [CHAT_TOOL] };
  assert.ok((await client.chat.completions.create(request)).choices[0].message.content);
  const [body] = await world.stub.bodies();
  assert.equal(body.tool_choice, "none");
  assert.ok(body.max_completion_tokens <= 400, `${body.max_completion_tokens}`);
  assert.match(body.messages[0].content, /This is the last request/);
}, ONLY_ROUTER);

test("chat stream that passes the budget", async (world) => {
  const client = clientOf(world);
  await use(client, world, 19_000);
  const request = { model: "stub-endless", messages: say("Go on"), max_tokens: 500, stream: true };
  const stream = await client.chat.completions.create(request);
  const error = await rejection(all(stream), APIError);
  assert.equal(error.code, "budget_exhausted");
  assert.equal(error.type, "budget_exhausted");
}, ONLY_ROUTER);

test("chat with an idempotency key", async (world) => {
  const client = clientOf(world);
  const ask = (text) =>
    client.chat.completions
      .create({ model: "stub", messages: say(text) }, { headers: { "Idempotency-Key": "key" } })
      .withResponse();
  const remaining = [];
  for (let time = 0; time < 2; time += 1) {
    remaining.push(Number((await ask("Hello")).response.headers.get("x-ratelimit-remaining-tokens")));
  }
  assert.equal((await world.stub.requests()).length, 2);
  // What reaches the provider again is counted again.
  assert.equal(remaining[0] - remaining[1], LIMIT - remaining[0]);
  assert.equal((await rejection(ask("Something else"), UnprocessableEntityError)).type, "invalid_request_error");
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
  const client = clientOf(world);
  await use(client, world, 19_900);
  isRefusal(await rejection(client.responses.create({ model: "stub", input: "Hello" }), BadRequestError));
  assert.deepEqual(world.sent, ["/v1/responses"]);
  assert.deepEqual(await world.stub.requests(), []);
}, ONLY_ROUTER);

test("responses warning", async (world) => {
  const client = clientOf(world);
  await use(client, world, 15_800);
  const question = { role: "user", content: "Hello" };
  for (const input of [[question], [question], "Hello"]) {
    await client.responses.create({ model: "stub", input, max_output_tokens: 1 });
  }
  const [warned, after, plain] = (await world.stub.bodies()).map(({ input }) => input);
  for (const [[first, note], told] of [[warned, announced], [after, reminded]]) {
    assert.deepEqual(first, question);
    assert.equal(note.role, "user");
    assert.match(note.content[0].text, told(79));
  }
  assert.match(plain, /^Hello\n\n/);
  assert.match(plain, reminded(79));
}, ONLY_ROUTER);

test("responses stream that passes the budget", async (world) => {
  const client = clientOf(world);
  await use(client, world, 19_000);
  const request = { model: "stub-endless", input: "Go on", max_output_tokens: 500, stream: true };
  const stream = await client.responses.create(request);
  const outcome = await all(stream).catch((error) => error);
  // The form that the API documents does not raise: the last event says it.
  const last = outcome instanceof APIError ? outcome : outcome.at(-1);
  assert.equal(last.code, "budget_exhausted");
}, ONLY_ROUTER);

await run(`openai ${VERSION}, Node`);
