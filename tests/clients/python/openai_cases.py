"""The cases of the package `openai`, which nothing but its base URL tells that there is a router."""

import json
from typing import Any

import openai
from cases import (
    ARGUMENTS,
    LIMIT,
    WEATHER,
    World,
    case,
    equal,
    incremental,
    is_announced,
    is_reminded,
    read,
    run,
)
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


def use(client: OpenAI, world: World, tokens: int) -> None:
    """Use so much of the thread's budget, and forget that."""
    client.chat.completions.create(model=f"stub-words-{tokens}", messages=say("Hello"), max_tokens=tokens)
    world.stub.clear()
    world.sent.clear()


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
    use(client, world, 19_900)
    for stream in (False, True):
        world.sent.clear()
        try:
            client.chat.completions.create(model="stub", messages=say("Hi"), stream=stream)
        except openai.BadRequestError as error:
            is_refusal(error)
            assert "97 are left" in error.message, error.message
            equal(error.response.headers["x-ratelimit-remaining-tokens"], "97", "remaining")
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

    equal(ask(15_800).headers["x-budget-warning"], "warning", "severity")
    for _ in range(2):
        ask(1)
    before, warned, after = [body["messages"] for body in world.stub.bodies()]
    equal(before, say("Hello"), "before the warning")
    for [message], is_told in ((warned, is_announced), (after, is_reminded)):
        equal(message["role"], "user", "role")
        assert message["content"].startswith("Hello\n\n"), message
        is_told(message["content"], 79)


@case("chat warning and tools", needs_router=True)
def chat_warning_tools(world: World) -> None:
    client = client_of(world, "chat-warning-tools")
    use(client, world, 15_800)
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": json.dumps(ARGUMENTS)}}
    messages = [
        *say("Weather?"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
    ]
    client.chat.completions.create(model="stub-tool", messages=messages, tools=[CHAT_TOOL], max_tokens=16)
    [body] = world.stub.bodies()
    *others, result = body["messages"]
    equal(others, messages[:-1], "what was said before")
    equal((result["role"], result["tool_call_id"]), ("tool", "c"), "the result")
    assert result["content"].startswith("rain\n\n"), result
    is_announced(result["content"], 79)
    assert "tool_choice" not in body, "the tools are off"


@case("chat last request", needs_router=True)
def chat_last(world: World) -> None:
    client = client_of(world, "chat-last")
    use(client, world, 19_500)
    answer = client.chat.completions.create(model="stub-tool", messages=say("Weather?"), tools=[CHAT_TOOL])
    assert answer.choices[0].message.content, "it is answered"
    [body] = world.stub.bodies()
    equal(body["tool_choice"], "none", "tool choice")
    equal(body["max_completion_tokens"] <= 400, True, "output that may be asked for")
    assert "This is the last request" in body["messages"][0]["content"], body


@case("chat stream that passes the budget", needs_router=True)
def chat_cut(world: World) -> None:
    client = client_of(world, "chat-cut")
    use(client, world, 19_000)
    stream = client.chat.completions.create(model="stub-endless", messages=say("Go on"), max_tokens=500, stream=True)
    try:
        read(stream)
    except openai.APIError as error:
        is_refusal(error)
    else:
        raise AssertionError("it ended as if it were whole")
    billed = world.stub.billed()["completion_tokens"]
    assert 100 < billed < 3_000, billed


@case("chat with an idempotency key", needs_router=True)
def chat_idempotent(world: World) -> None:
    client = client_of(world, "chat-key")

    def ask(text: str) -> Any:
        return client.chat.completions.with_raw_response.create(
            model="stub", messages=say(text), extra_headers={"Idempotency-Key": "key"}
        )

    remaining = [int(ask("Hello").headers["x-ratelimit-remaining-tokens"]) for _ in range(2)]
    equal(len(world.stub.requests()), 2, "the stub's requests")
    equal(remaining[0] - remaining[1], LIMIT - remaining[0], "what reaches the provider again is counted again")
    try:
        ask("Something else")
    except openai.UnprocessableEntityError as error:
        equal(error.type, "invalid_request_error", "type")
    else:
        raise AssertionError("another body under the same key")


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
    use(client, world, 19_900)
    try:
        client.responses.create(model="stub", input="Hello")
    except openai.BadRequestError as error:
        is_refusal(error)
    else:
        raise AssertionError("not refused")
    equal(world.sent, ["/v1/responses"], "sent")
    equal(world.stub.requests(), [], "the stub's requests")


@case("responses warning", needs_router=True)
def responses_warning(world: World) -> None:
    client = client_of(world, "responses-warning")
    use(client, world, 15_800)
    question: Any = [{"role": "user", "content": "Hello"}]
    for _ in range(2):
        client.responses.create(model="stub", input=question, max_output_tokens=1)
    client.responses.create(model="stub", input="Hello", max_output_tokens=1)
    warned, after, plain = [body["input"] for body in world.stub.bodies()]
    for [first, note], is_told in ((warned, is_announced), (after, is_reminded)):
        equal(first, question[0], "what was said")
        equal(note["role"], "user", "role")
        is_told(note["content"][0]["text"], 79)
    assert plain.startswith("Hello\n\n"), plain
    is_reminded(plain, 79)


@case("responses stream that passes the budget", needs_router=True)
def responses_cut(world: World) -> None:
    client = client_of(world, "responses-cut")
    use(client, world, 19_000)
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
