"""The cases of the package `anthropic`, which nothing but its base URL tells that there is a router."""

from typing import Any

import anthropic
from anthropic import Anthropic, DefaultHttpxClient
from cases import ARGUMENTS, LIMIT, WEATHER, World, case, equal, incremental, is_announced, is_reminded, read, run

TOOL: Any = {"name": "weather", "input_schema": WEATHER}


def client_of(world: World, thread: str) -> Anthropic:
    """A client as anybody would make one; its HTTP client notes what is sent."""
    hooks = {"request": [lambda request: world.sent.append(request.url.path)]}
    return Anthropic(
        base_url=world.base_url,
        api_key="sk-stub",
        default_headers=world.thread(thread),
        http_client=DefaultHttpxClient(event_hooks=hooks),
    )


def say(text: str) -> Any:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def error_of(error: anthropic.APIStatusError) -> Any:
    """What its body says."""
    assert isinstance(error.body, dict), error.body
    equal(error.body["type"], "error", "type")
    return error.body["error"]


def use(client: Anthropic, world: World, tokens: int) -> None:
    """Use so much of the thread's budget, and forget that."""
    client.messages.create(model=f"stub-words-{tokens}", max_tokens=tokens, messages=say("Hello"))
    world.stub.clear()
    world.sent.clear()


@case("messages")
def messages(world: World) -> None:
    client = client_of(world, "messages")
    raw = client.messages.with_raw_response.create(model="stub", max_tokens=50, messages=say("Hello"))
    message = raw.parse()
    equal(message.usage.input_tokens, world.stub.billed()["prompt_tokens"], "input tokens")
    equal(message.usage.output_tokens, 16, "output tokens")
    equal(message.stop_reason, "end_turn", "stop reason")
    assert message.content[0].type == "text"
    assert message.content[0].text.startswith("tokens flow")
    [request] = world.stub.requests()
    equal(request["headers"]["authorization"], "Bearer sk-stub", "authorization")
    equal(request["body"], {"model": "stub", "max_tokens": 50, "messages": say("Hello")}, "body")
    if world.through_router:
        total = message.usage.input_tokens + message.usage.output_tokens
        equal(raw.headers["x-ratelimit-limit-tokens"], str(LIMIT), "limit")
        equal(raw.headers["x-ratelimit-remaining-tokens"], str(LIMIT - total), "remaining")
        equal(float(raw.headers["x-budget-used-percent"]), round(total / LIMIT * 100, 1), "percent")


@case("messages with a cache")
def messages_cached(world: World) -> None:
    client = client_of(world, "messages-cache")
    system: Any = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    raw = client.messages.with_raw_response.create(model="stub", max_tokens=50, system=system, messages=say("Hi"))
    usage = raw.parse().usage
    assert usage.cache_creation_input_tokens
    assert usage.cache_read_input_tokens
    prompt = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    equal(prompt, world.stub.billed()["prompt_tokens"], "prompt tokens")
    if world.through_router:
        equal(raw.headers["x-ratelimit-remaining-tokens"], str(LIMIT - prompt - 16), "remaining")


@case("messages stream")
def messages_stream(world: World) -> None:
    client = client_of(world, "messages-stream")
    stream = client.messages.create(model="stub-slow-20ms", max_tokens=50, messages=say("Hello"), stream=True)
    events = incremental(stream)
    equal((events[0].type, events[-1].type), ("message_start", "message_stop"), "first and last event")
    equal(events[-2].usage.output_tokens, 16, "output tokens")
    with client.messages.stream(model="stub", max_tokens=50, messages=say("Hello")) as helper:
        equal(len(helper.get_final_text().split()), 16, "words by the helper")


@case("messages tools")
def messages_tools(world: World) -> None:
    client = client_of(world, "messages-tools")
    conversation = say("Weather?")
    first = client.messages.create(model="stub-tool", max_tokens=50, messages=conversation, tools=[TOOL])
    call = first.content[0]
    assert call.type == "tool_use"
    equal(call.input, ARGUMENTS, "arguments")
    conversation += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}]},
    ]
    second = client.messages.create(model="stub-tool", max_tokens=50, messages=conversation, tools=[TOOL])
    equal(second.stop_reason, "end_turn", "stop reason")
    with client.messages.stream(model="stub-tool", max_tokens=50, messages=say("Weather?"), tools=[TOOL]) as helper:
        streamed = helper.get_final_message().content[0]
    assert streamed.type == "tool_use"
    equal(streamed.input, ARGUMENTS, "streamed arguments")


@case("messages refusal", needs_router=True)
def messages_refusal(world: World) -> None:
    client = client_of(world, "messages-refusal")
    use(client, world, 19_900)
    for stream in (False, True):
        world.sent.clear()
        try:
            client.messages.create(model="stub", max_tokens=50, messages=say("Hello"), stream=stream)
        except anthropic.BadRequestError as error:
            equal(error_of(error)["type"], "budget_exhausted", "type")
            assert "97 are left" in error_of(error)["message"], error
        else:
            raise AssertionError("not refused")
        equal(world.sent, ["/v1/messages"], "sent")
    equal(world.stub.requests(), [], "the stub's requests")


@case("messages warning", needs_router=True)
def messages_warning(world: World) -> None:
    client = client_of(world, "messages-warning")
    use(client, world, 15_800)
    for _ in range(2):
        client.messages.create(model="stub", max_tokens=1, messages=say("Hello"), system="Be brief.")
    for body, is_told in zip(world.stub.bodies(), (is_announced, is_reminded), strict=True):
        equal(body["system"], "Be brief.", "system")
        [message] = body["messages"]
        said, note = message["content"]
        equal(said, {"type": "text", "text": "Hello"}, "what was said")
        is_told(note["text"], 79)


@case("messages warning and tools", needs_router=True)
def messages_warning_tools(world: World) -> None:
    client = client_of(world, "messages-warning-tools")
    use(client, world, 15_800)
    conversation: Any = [
        *say("Weather?"),
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": ARGUMENTS}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "rain"}]},
    ]
    client.messages.create(model="stub-tool", max_tokens=16, messages=conversation, tools=[TOOL])
    [body] = world.stub.bodies()
    *others, last = body["messages"]
    equal(others, conversation[:-1], "what was said before")
    result, note = last["content"]
    equal(result, conversation[-1]["content"][0], "the result")
    is_announced(note["text"], 79)


@case("messages last request", needs_router=True)
def messages_last(world: World) -> None:
    client = client_of(world, "messages-last")
    use(client, world, 19_500)
    answer = client.messages.create(model="stub-tool", max_tokens=4_000, messages=say("Weather?"), tools=[TOOL])
    equal(answer.content[0].type, "text", "it is answered")
    [body] = world.stub.bodies()
    equal(body["tool_choice"], {"type": "none"}, "tool choice")
    equal(body["max_tokens"] <= 400, True, "output that may be asked for")
    assert "This is the last request" in body["messages"][0]["content"][1]["text"], body


@case("messages stream that passes the budget", needs_router=True)
def messages_cut(world: World) -> None:
    client = client_of(world, "messages-cut")
    use(client, world, 19_000)
    stream = client.messages.create(model="stub-endless", max_tokens=500, messages=say("Go on"), stream=True)
    try:
        read(stream)
    except anthropic.APIStatusError as error:
        equal(error_of(error)["type"], "budget_exhausted", "type")
    else:
        raise AssertionError("it ended as if it were whole")


@case("provider's errors")
def provider_errors(world: World) -> None:
    client = client_of(world, "errors")
    try:
        client.messages.create(model="stub-error-400", max_tokens=50, messages=say("Hello"))
    except anthropic.BadRequestError as error:
        equal(error_of(error)["type"], "invalid_request_error", "type")
    else:
        raise AssertionError("no error")
    equal(world.sent, ["/v1/messages"], "sent")


@case("provider fails twice")
def provider_fails_twice(world: World) -> None:
    client = client_of(world, "fail-twice")
    client.messages.create(model="stub-fail-twice", max_tokens=50, messages=say("Hello"))
    equal(len(world.stub.requests()), 3, "the stub's requests")
    equal(len(world.sent), 1 if world.through_router else 3, "the client's requests")


run(f"anthropic {anthropic.__version__}, Python")
