"""The cases of the package `openai`, which nothing but its base URL tells that there is a router."""

import json
from typing import Any

import openai
from cases import ARGUMENTS, LIMIT, WEATHER, World, case, equal, incremental, read, run, warnings_in
from openai import DefaultHttpxClient, OpenAI

CHAT_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
RESPONSES_TOOL: Any = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}


def client_of(world: World, thread: str) -> OpenAI:
    """A client as anybody would make one; its HTTP client notes what is sent."""
    hooks = {"request": [lambda request: world.sent.append(request.url.path)]}
    return OpenAI(
        base_url=f"{world.base_url}/v1",
        api_key="sk-stub",
        default_headers=world.thread(thread),
        http_client=DefaultHttpxClient(event_hooks=hooks),
    )


def say(text: str) -> Any:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def is_refusal(error: openai.APIError) -> None:
    """Fail unless the error says that the budget is used up."""
    equal(error.code, "budget_exhausted", "code")
    equal(error.type, "budget_exhausted", "type")


@case("chat")
def chat(world: World) -> None:
    client = client_of(world, "chat")
    raw = client.chat.completions.with_raw_response.create(model="stub", messages=say("Hello"), user="u")
    completion = raw.parse()
    assert completion.usage
    equal(completion.usage.prompt_tokens, world.stub.billed()["prompt_tokens"], "prompt tokens")
    equal(completion.usage.completion_tokens, world.stub.billed()["completion_tokens"], "completion tokens")
    assert (completion.choices[0].message.content or "").startswith("tokens flow")
    [request] = world.stub.requests()
    equal(request["headers"]["authorization"], "Bearer sk-stub", "authorization")
    equal(request["body"], {"model": "stub", "messages": say("Hello"), "user": "u"}, "body")
    if world.through_router:
        total = completion.usage.total_tokens
        equal(raw.headers["x-ratelimit-limit-tokens"], str(LIMIT), "limit")
        equal(raw.headers["x-ratelimit-remaining-tokens"], str(LIMIT - total), "remaining")
        equal(float(raw.headers["x-budget-used-percent"]), round(total / LIMIT * 100, 1), "percent")
        assert "x-budget-warning" not in raw.headers


@case("chat stream")
def chat_stream(world: World) -> None:
    client = client_of(world, "chat-stream")
    stream = client.chat.completions.create(model="stub-slow-20ms", messages=say("Hello"), stream=True)
    chunks = incremental(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), "a chunk of usage that nobody asked for"
    equal(len("".join(chunk.choices[0].delta.content or "" for chunk in chunks).split()), 16, "words")
    equal(chunks[-1].choices[0].finish_reason, "stop", "finish reason")


@case("chat stream with usage")
def chat_stream_usage(world: World) -> None:
    client = client_of(world, "chat-stream-usage")
    chunks = list(
        client.chat.completions.create(
            model="stub", messages=say("Hello"), stream=True, stream_options={"include_usage": True}
        )
    )
    equal([chunk.choices for chunk in chunks if not chunk.choices], [[]], "chunks without choices")
    usage = chunks[-1].usage
    assert usage
    equal(usage.completion_tokens, 16, "completion tokens")
    equal(usage.prompt_tokens, world.stub.billed()["prompt_tokens"], "prompt tokens")


@case("chat tools")
def chat_tools(world: World) -> None:
    client = client_of(world, "chat-tools")
    messages = say("Weather?")
    first = client.chat.completions.create(model="stub-tool", messages=messages, tools=[CHAT_TOOL])
    message = first.choices[0].message
    assert message.tool_calls
    call = message.tool_calls[0]
    assert call.type == "function"
    equal(json.loads(call.function.arguments), ARGUMENTS, "arguments")
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    second = client.chat.completions.create(model="stub-tool", messages=messages, tools=[CHAT_TOOL])
    equal(second.choices[0].finish_reason, "stop", "finish reason")

    stream = client.chat.completions.create(model="stub-tool", messages=say("Weather?"), tools=[CHAT_TOOL], stream=True)
    parts = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]
    arguments = "".join(part.function.arguments or "" for part in parts if part.function)
    equal(json.loads(arguments), ARGUMENTS, "streamed arguments")


@case("chat refusal", needs_router=True)
def chat_refusal(world: World) -> None:
    client = client_of(world, "chat-refusal")
    for stream in (False, True):
        world.sent.clear()
        try:
            client.chat.completions.create(model="stub", messages=say("Hi"), max_tokens=LIMIT, stream=stream)
        except openai.RateLimitError as error:
            equal(error.status_code, 429, "status")
            is_refusal(error)
            equal(error.response.headers["x-ratelimit-remaining-tokens"], str(LIMIT), "remaining")
        else:
            raise AssertionError("not refused")
        equal(world.sent, ["/v1/chat/completions"], "sent")
    equal(world.stub.requests(), [], "the stub's requests")


@case("chat warning", needs_router=True)
def chat_warning(world: World) -> None:
    client = client_of(world, "chat-warning")

    def ask(tokens: int) -> Any:
        return client.chat.completions.with_raw_response.create(
            model=f"stub-words-{tokens}", messages=say("Hello"), max_tokens=tokens
        )

    equal(ask(790).headers["x-budget-warning"], "warning", "severity")
    for _ in range(2):
        ask(1)
    before, warned, after = [body["messages"] for body in world.stub.bodies()]
    equal(before, say("Hello"), "before the warning")
    equal(after, say("Hello"), "after the warning")
    equal([message for message in warned if message["role"] == "user"], say("Hello"), "what was said")
    [warning] = warnings_in(message["content"] for message in warned if message["role"] == "system")
    assert warning.startswith("Note: 79%"), warning
    equal(len(warned), 2, "messages")


@case("chat warning and tools", needs_router=True)
def chat_warning_tools(world: World) -> None:
    client = client_of(world, "chat-warning-tools")
    messages = say("Weather? " + "x" * 3_100)
    first = client.chat.completions.create(model="stub-tool", messages=messages, tools=[CHAT_TOOL])
    message = first.choices[0].message
    assert message.tool_calls
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
    messages = [*say("Weather?"), message, result]
    client.chat.completions.create(model="stub-tool", messages=messages, tools=[CHAT_TOOL], max_tokens=16)
    _, warned = [body["messages"] for body in world.stub.bodies()]
    assert len(warnings_in(message["content"] for message in warned)) == 1, "no warning"
    roles = [message["role"] for message in warned]
    equal(roles.index("tool"), roles.index("assistant") + 1, "the result's place after the call")
    equal([role for role in roles if role != "system"], ["user", "assistant", "tool"], "what was said")


@case("chat stream that passes the budget", needs_router=True)
def chat_cut(world: World) -> None:
    client = client_of(world, "chat-cut")
    stream = client.chat.completions.create(model="stub-endless", messages=say("Go on"), max_tokens=500, stream=True)
    try:
        read(stream)
    except openai.APIError as error:
        is_refusal(error)
    else:
        raise AssertionError("it ended as if it were whole")
    billed = world.stub.billed()["completion_tokens"]
    assert 100 < billed < 3 * LIMIT, billed


@case("chat counted once", needs_router=True)
def chat_idempotent(world: World) -> None:
    client = client_of(world, "chat-once")
    remaining = []
    for key in ("a", "a", "b"):
        raw = client.chat.completions.with_raw_response.create(
            model="stub", messages=say("Hello"), extra_headers={"Idempotency-Key": key}
        )
        remaining.append(int(raw.headers["x-ratelimit-remaining-tokens"]))
    equal(remaining[0], remaining[1], "remaining after the same key")
    equal(remaining[0] - remaining[2], LIMIT - remaining[0], "tokens of another key")


@case("provider's errors")
def provider_errors(world: World) -> None:
    client = client_of(world, "errors")
    try:
        client.chat.completions.create(model="stub-error-400", messages=say("Hello"))
    except openai.BadRequestError as error:
        equal(error.type, "invalid_request_error", "type")
    else:
        raise AssertionError("no error")
    try:
        client.chat.completions.create(model="no-such-model", messages=say("Hello"))
    except openai.NotFoundError as error:
        equal(error.code, "model_not_found", "code")
    else:
        raise AssertionError("no error")
    equal(world.sent, ["/v1/chat/completions"] * 2, "sent")
    if world.through_router:
        raw = client.chat.completions.with_raw_response.create(model="stub", messages=say("Hello"))
        total = world.stub.billed()["prompt_tokens"] + world.stub.billed()["completion_tokens"]
        equal(raw.headers["x-ratelimit-remaining-tokens"], str(LIMIT - total), "remaining")


@case("provider fails twice")
def provider_fails_twice(world: World) -> None:
    client = client_of(world, "fail-twice")
    client.chat.completions.create(model="stub-fail-twice", messages=say("Hello"))
    equal(len(world.stub.requests()), 3, "the stub's requests")
    equal(len(world.sent), 1 if world.through_router else 3, "the client's requests")


@case("connection dies")
def connection_dies(world: World) -> None:
    client = client_of(world, "dies")
    stream = client.chat.completions.create(model="stub-broken-stream", messages=say("Hello"), stream=True)
    try:
        read(stream)
    except openai.APIError as error:
        assert error.code != "budget_exhausted", error
    else:
        raise AssertionError("it ended as if it were whole")


@case("models")
def models(world: World) -> None:
    equal(next(iter(client_of(world, "models").models.list())).id, "stub", "the first model")


@case("responses")
def responses(world: World) -> None:
    client = client_of(world, "responses")
    raw = client.responses.with_raw_response.create(model="stub", input="Hello", instructions="Be brief.")
    response = raw.parse()
    assert response.usage
    equal(response.usage.input_tokens, world.stub.billed()["prompt_tokens"], "input tokens")
    equal(response.usage.output_tokens, 16, "output tokens")
    assert response.output_text.startswith("tokens flow")
    if world.through_router:
        left = LIMIT - response.usage.total_tokens
        equal(raw.headers["x-ratelimit-remaining-tokens"], str(left), "remaining")


@case("responses stream")
def responses_stream(world: World) -> None:
    client = client_of(world, "responses-stream")
    events = incremental(client.responses.create(model="stub-slow-20ms", input="Hello", stream=True))
    equal([event.sequence_number for event in events], list(range(len(events))), "sequence numbers")
    equal(events[0].type, "response.created", "first event")
    equal(events[-1].type, "response.completed", "last event")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    equal(events[-1].response.output_text, text, "text")
    equal(events[-1].response.usage.output_tokens, 16, "output tokens")
    with client.responses.stream(model="stub", input="Hello") as helper:
        equal(helper.get_final_response().output_text, text, "text by the helper")


@case("responses tools")
def responses_tools(world: World) -> None:
    client = client_of(world, "responses-tools")
    items: list[Any] = [{"role": "user", "content": "Weather?"}]
    first = client.responses.create(model="stub-tool", input=items, tools=[RESPONSES_TOOL])
    call = first.output[0]
    assert call.type == "function_call", call.type
    equal(json.loads(call.arguments), ARGUMENTS, "arguments")
    items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    second = client.responses.create(model="stub-tool", input=items, tools=[RESPONSES_TOOL])
    assert second.output_text


@case("responses refusal", needs_router=True)
def responses_refusal(world: World) -> None:
    client = client_of(world, "responses-refusal")
    try:
        client.responses.create(model="stub", input="Hello", max_output_tokens=LIMIT)
    except openai.RateLimitError as error:
        is_refusal(error)
    else:
        raise AssertionError("not refused")
    equal(world.sent, ["/v1/responses"], "sent")
    equal(world.stub.requests(), [], "the stub's requests")


@case("responses warning", needs_router=True)
def responses_warning(world: World) -> None:
    client = client_of(world, "responses-warning")
    for words in (790, 1, 1):
        client.responses.create(model=f"stub-words-{words}", input="Hello", max_output_tokens=words)
    before, warned, after = [body["input"] for body in world.stub.bodies()]
    equal(before, "Hello", "before the warning")
    equal(after, "Hello", "after the warning")
    texts = [item["content"] for item in warned if item["role"] in ("system", "developer")]
    flat = [text if isinstance(text, str) else text[0]["text"] for text in texts]
    equal(len(warnings_in(flat)), 1, "warnings")
    equal(len([item for item in warned if item["role"] == "user"]), 1, "what was said")


@case("responses stream that passes the budget", needs_router=True)
def responses_cut(world: World) -> None:
    client = client_of(world, "responses-cut")
    stream = client.responses.create(model="stub-endless", input="Go on", max_output_tokens=500, stream=True)
    try:
        events = read(stream)
    except openai.APIError as error:
        equal(error.code, "budget_exhausted", "code")
    else:
        # The form that the API documents does not raise: the last event says it.
        assert events[-1].type == "error", events[-1].type
        equal(events[-1].code, "budget_exhausted", "code")


run(f"openai {openai.__version__}, Python")
