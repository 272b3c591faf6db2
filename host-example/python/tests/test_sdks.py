"""The packages `openai` and `anthropic` within budgets, without a router, in front of a stand-in for the providers."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from conftest import Provider

import thread_budget.httpx
import thread_budget.httpx2
from thread_budget import ThreadBudgetRegistry

LIMIT = 10_000
HELLO: Any = [{"role": "user", "content": "Hello"}]

both_libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)


def transports(library: ModuleType) -> ModuleType:
    return thread_budget.httpx if library is httpx else thread_budget.httpx2


@dataclass
class World:
    """A registry, the stand-in for the providers, and clients as anybody would make them, for the thread `agent-7`."""

    provider: Provider
    registry: ThreadBudgetRegistry
    closing: contextlib.ExitStack

    def sync_openai(self, library: ModuleType = httpx2, **settings: Any) -> openai.OpenAI:
        transport = transports(library).BudgetTransport(self.registry, thread="agent-7", settings=settings)
        http_client = self.closing.enter_context(library.Client(transport=transport))
        return openai.OpenAI(base_url=f"{self.provider.url}/v1", api_key="k", http_client=http_client)

    def sync_anthropic(self) -> anthropic.Anthropic:
        transport = thread_budget.httpx2.BudgetTransport(self.registry, thread="agent-7")
        http_client = self.closing.enter_context(httpx2.Client(transport=transport))
        return anthropic.Anthropic(base_url=self.provider.url, api_key="k", http_client=http_client)

    def async_openai(self, library: ModuleType) -> openai.AsyncOpenAI:
        transport = transports(library).AsyncBudgetTransport(self.registry, thread="agent-7")
        http_client = library.AsyncClient(transport=transport)
        return openai.AsyncOpenAI(base_url=f"{self.provider.url}/v1", api_key="k", http_client=http_client)

    def async_anthropic(self) -> anthropic.AsyncAnthropic:
        transport = thread_budget.httpx2.AsyncBudgetTransport(self.registry, thread="agent-7")
        http_client = httpx2.AsyncClient(transport=transport)
        return anthropic.AsyncAnthropic(base_url=self.provider.url, api_key="k", http_client=http_client)

    def held(self) -> int:
        return self.registry.held_tokens("agent-7")

    def used(self, thread: str = "agent-7") -> tuple[int, int]:
        """Prompt and completion tokens used; nothing is held any more."""
        assert self.registry.held_tokens(thread) == 0
        usage = self.registry.get_usage(thread)
        return (usage["prompt_tokens"], usage["completion_tokens"]) if usage else (0, 0)


@pytest.fixture
def world(provider: Provider) -> Iterator[World]:
    with contextlib.ExitStack() as closing:
        yield World(provider, ThreadBudgetRegistry(LIMIT), closing)


def texts(value: Any) -> str:
    """All that a request says."""
    match value:
        case str():
            return value
        case dict():
            return "\n".join(map(texts, value.values()))
        case list():
            return "\n".join(map(texts, value))
    return ""


def read(stream: Iterable[Any]) -> None:
    """A stream that is to be cut; fail when it never is."""
    for number, _ in enumerate(stream):
        assert number < 100 * LIMIT, "it is not cut"


@both_libraries
def test_a_request_is_counted_and_the_agent_is_warned_once(world: World, library: ModuleType) -> None:
    client = world.sync_openai(library)
    tokens = 0
    for words in (7_600, 1, 1):
        raw = client.chat.completions.with_raw_response.create(
            model=f"stub-words-{words}", messages=HELLO, max_tokens=words
        )
        usage = raw.parse().usage
        assert usage is not None
        tokens += usage.total_tokens
        assert raw.headers["x-ratelimit-remaining-tokens"] == str(LIMIT - tokens)
    assert sum(world.used()) == tokens
    before, warned, after = [texts(body) for body in world.provider.bodies()]
    assert "token budget" not in before
    assert "% of the token budget is used" in warned
    assert "token budget" not in after


@both_libraries
def test_a_budget_that_is_used_up_is_the_sdks_error(world: World, library: ModuleType) -> None:
    client = world.sync_openai(library)
    world.registry.consume("agent-7", LIMIT, 0)
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="agent-7 has used 10,000 of 10,000 tokens") as caught:
            client.chat.completions.create(model="stub", messages=HELLO, stream=stream)
        assert (caught.value.code, caught.value.status_code) == ("budget_exhausted", 400)
    assert world.provider.bodies() == []


@both_libraries
def test_a_stream_that_uses_the_budget_up_is_cut(world: World, library: ModuleType) -> None:
    client = world.sync_openai(library)
    world.registry.set_limit("agent-7", 500)
    with pytest.raises(openai.APIError, match="the token budget is used up") as caught:
        read(client.chat.completions.create(model="stub-endless", messages=HELLO, stream=True))
    assert caught.value.code == "budget_exhausted"
    assert sum(world.used()) >= 500


@both_libraries
def test_a_stream_is_passed_on_as_it_comes_and_counted(world: World, library: ModuleType) -> None:
    stream = world.sync_openai(library).chat.completions.create(model="stub-slow-100ms", messages=HELLO, stream=True)
    first = next(stream)
    assert first.choices
    assert world.held() > 0, "it has come to its end before it was read"
    words = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert len(words.split()) == 16
    assert world.used()[1] == 16


@both_libraries
def test_a_stream_that_is_left_is_counted_as_far_as_it_came(world: World, library: ModuleType) -> None:
    client = world.sync_openai(library)

    def begin() -> Any:
        stream = client.chat.completions.create(model="stub-slow-30ms-words-500", messages=HELLO, stream=True)
        for _ in range(10):
            next(stream)
        return stream

    begin().close()
    prompt, completion = world.used()
    assert prompt > 0
    assert 5 <= completion < 400
    stream = begin()
    assert world.held() > 0
    # Nobody closes it.
    del stream
    gc.collect()
    assert world.used()[0] == 2 * prompt


def test_the_last_call_that_fits_is_said_to_be_one(world: World) -> None:
    client = world.sync_openai()
    world.registry.consume("agent-7", 9_500, 0)
    client.chat.completions.create(model="stub", messages=HELLO, max_tokens=600)
    [body] = world.provider.bodies()
    assert body["max_tokens"] < 500
    assert "This is the last request" in texts(body)


def test_anthropics_messages(world: World) -> None:
    client = world.sync_anthropic()
    for words in (7_600, 1, 1):
        client.messages.create(model=f"stub-words-{words}", messages=HELLO, max_tokens=words, system="Be brief.")
    before, warned, after = [texts(body) for body in world.provider.bodies()]
    assert "token budget" not in before
    assert "% of the token budget is used" in warned
    assert "token budget" not in after
    with pytest.raises(anthropic.APIStatusError) as cut:
        read(client.messages.create(model="stub-endless", messages=HELLO, max_tokens=100_000, stream=True))
    assert "budget_exhausted" in str(cut.value.body)
    assert sum(world.used()) >= LIMIT
    world.provider.clear()
    with pytest.raises(anthropic.BadRequestError, match="token budget: thread agent-7") as refused:
        client.messages.create(model="stub", messages=HELLO, max_tokens=100)
    assert "budget_exhausted" in str(refused.value.body)
    assert world.provider.bodies() == []


def test_anthropics_messages_without_blocking(world: World) -> None:
    async def run() -> None:
        async with world.async_anthropic() as client:
            message = await client.messages.create(model="stub", messages=HELLO, max_tokens=50)
            assert world.used() == (message.usage.input_tokens, message.usage.output_tokens)
            async with client.messages.stream(model="stub", messages=HELLO, max_tokens=50) as stream:
                assert len((await stream.get_final_text()).split()) == 16
            assert world.used()[1] == 32

    asyncio.run(run())


@both_libraries
def test_a_client_that_does_not_block(world: World, library: ModuleType) -> None:
    async def run() -> None:
        async with world.async_openai(library) as client:
            completions = await asyncio.gather(
                *(client.chat.completions.create(model="stub", messages=HELLO, max_tokens=16) for _ in range(4))
            )
            assert sum(world.used()) == sum(each.usage.total_tokens for each in completions if each.usage)
            world.registry.set_limit("agent-7", 700)
            with pytest.raises(openai.APIError, match="the token budget is used up"):
                async for _ in await client.chat.completions.create(model="stub-endless", messages=HELLO, stream=True):
                    pass
            assert sum(world.used()) >= 700
            with pytest.raises(openai.BadRequestError, match="token budget: thread agent-7"):
                await client.chat.completions.create(model="stub", messages=HELLO)

    asyncio.run(run())


@both_libraries
def test_what_is_cancelled_is_charged(world: World, library: ModuleType) -> None:
    async def run() -> None:
        async with world.async_openai(library) as client:

            async def cancel(task: "asyncio.Task[None]") -> tuple[int, int]:
                assert world.held() > 0
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return world.used()

            async def ask() -> None:
                await client.chat.completions.create(model="stub-slow-10000ms", messages=HELLO)

            task = asyncio.create_task(ask())
            while not world.provider.bodies():
                await asyncio.sleep(0.05)
            prompt, completion = await cancel(task)
            assert prompt > 0
            assert completion == 0

            events = []

            async def stream() -> None:
                async for event in await client.chat.completions.create(
                    model="stub-slow-30ms-words-500", messages=HELLO, stream=True
                ):
                    events.append(event)

            task = asyncio.create_task(stream())
            while len(events) < 5:
                await asyncio.sleep(0.01)
            both, completion = await cancel(task)
            assert both == 2 * prompt
            assert 1 <= completion < 400

    asyncio.run(run())


@both_libraries
def test_a_client_that_waits_no_longer_gets_its_own_error(world: World, library: ModuleType) -> None:
    client = world.sync_openai(library).with_options(timeout=0.2, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="stub-slow-5000ms", messages=HELLO)
    prompt, completion = world.used()
    assert prompt > 0
    assert completion == 0


def test_a_provider_that_takes_too_long_for_the_settings(world: World) -> None:
    client = world.sync_openai(idle_timeout_ms=200).with_options(max_retries=0)
    with pytest.raises(openai.InternalServerError, match="no upstream answered") as caught:
        client.chat.completions.create(model="stub-slow-5000ms", messages=HELLO)
    assert caught.value.status_code == 504
    assert world.used()[0] > 0


def test_what_may_pass_is_tried_again_and_counted_once(world: World) -> None:
    client = world.sync_openai(retry_pause_ms=1).with_options(max_retries=0)
    completion = client.chat.completions.create(model="stub-fail-twice", messages=HELLO)
    assert completion.usage
    assert len(world.provider.bodies()) == 3
    assert sum(world.used()) == completion.usage.total_tokens


def test_a_providers_error_costs_nothing(world: World) -> None:
    client = world.sync_openai()
    with pytest.raises(openai.BadRequestError, match="asked to fail"):
        client.chat.completions.create(model="stub-error-400", messages=HELLO)
    assert world.used() == (0, 0)
    assert [model.id for model in client.models.list()]


def test_a_stream_that_breaks_off_does_not_end_as_if_it_were_whole(world: World) -> None:
    client = world.sync_openai()
    with pytest.raises(openai.APIError, match="broke"):
        read(client.chat.completions.create(model="stub-broken-stream", messages=HELLO, stream=True))
    assert world.used()[1] > 0


def test_a_header_names_another_thread_and_a_child_counts_in_its_parent(world: World) -> None:
    client = world.sync_openai()
    world.registry.open_thread("session", max_tokens=300)
    world.registry.open_thread("session/agent", parent="session")
    client.chat.completions.create(model="stub", messages=HELLO, extra_headers={"X-Thread-Id": "session/agent"})
    assert world.used("session") == world.used("session/agent") != (0, 0)
    assert not world.registry.has_budget("agent-7")
    world.registry.consume("session", 300, 0)
    with pytest.raises(openai.BadRequestError, match="thread session has used"):
        client.chat.completions.create(model="stub", messages=HELLO, extra_headers={"X-Thread-Id": "session/agent"})


def test_threads_at_the_same_time_do_not_pass_a_limit_together(world: World) -> None:
    client = world.sync_openai(hold_wait_ms=0).with_options(max_retries=0)
    refused = []

    def ask() -> None:
        for _ in range(10):
            try:
                client.chat.completions.create(model="stub-slow-5ms-words-200", messages=HELLO, max_tokens=200)
            except openai.APIStatusError as error:
                refused.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(refused) == {"budget_exhausted"}
    # What the notes to the agent take of a prompt, no estimate knew.
    assert LIMIT / 2 < sum(world.used()) <= LIMIT * 1.05
