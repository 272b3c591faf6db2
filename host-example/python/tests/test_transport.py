"""What a transport does with requests and answers, in front of a provider that a test makes up."""

import asyncio
import gc
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest

import thread_budget.httpx
from thread_budget import PolicyLostError, RegistryLostError, ThreadBudgetRegistry, Threshold
from thread_budget._desk import desk_of
from thread_budget._instance import Calls
from thread_budget._policy import Policy
from thread_budget.httpx2 import AsyncBudgetTransport, BudgetTransport

USAGE = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
BODY: dict[str, Any] = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
CHAT = "https://provider/v1/chat/completions"


class Upstream:
    """Answers, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.answer: Callable[[httpx2.Request], httpx2.Response] = lambda _: httpx2.Response(200, json={"usage": USAGE})

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self.answer(request)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def registry() -> ThreadBudgetRegistry:
    return ThreadBudgetRegistry(1_000)


Making = Callable[..., httpx2.Client]


@pytest.fixture
def client(upstream: Upstream, registry: ThreadBudgetRegistry) -> Iterator[Making]:
    made: list[httpx2.Client] = []

    def make(thread: str | None = "a", **settings: Any) -> httpx2.Client:
        inner = httpx2.MockTransport(upstream)
        made.append(httpx2.Client(transport=BudgetTransport(registry, thread, settings=settings, transport=inner)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def used(registry: ThreadBudgetRegistry, thread: str = "a") -> int:
    """Tokens used; nothing is held any more."""
    assert registry.held_tokens(thread) == 0
    usage = registry.get_usage(thread)
    return usage["total_tokens"] if usage else 0


def test_headers_go_along_but_for_those_that_are_ours(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    answer = {"usage": USAGE}
    upstream.answer = lambda _: httpx2.Response(200, json=answer, headers={"X-Id": "1", "Keep-Alive": "5"})
    headers = {"x-thread-id": "b", "X-Mine": "2", "connection": "x-hop", "x-hop": "3", "authorization": "Bearer k"}
    response = client().post(CHAT, json=BODY, headers=headers)
    [request] = upstream.requests
    sent = {name: request.headers.get(name) for name in ("x-mine", "authorization", "host", "accept-encoding")}
    assert sent == {"x-mine": "2", "authorization": "Bearer k", "host": "provider", "accept-encoding": "identity"}
    assert not {"x-thread-id", "x-hop"} & set(request.headers)
    assert response.json() == answer
    assert (response.headers["x-id"], response.headers["x-ratelimit-remaining-tokens"]) == ("1", "958")
    assert "keep-alive" not in response.headers
    assert (used(registry), used(registry, "b")) == (0, 42)


def test_what_is_coded_is_read_and_passed_on_decoded(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    coded = gzip.compress(json.dumps({"usage": USAGE}).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    upstream.answer = lambda _: httpx2.Response(200, stream=httpx2.ByteStream(coded), headers=headers)
    assert client().post(CHAT, json=BODY).json() == {"usage": USAGE}
    assert used(registry) == 42


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("https://api.openai.com/v1/chat/completions", {}),
        ("https://openrouter.ai/api/v1/chat/completions?x=1", {}),
        ("http://[::1]:8080/v1/chat/completions", {}),
        ("https://api.anthropic.com/v1/messages?beta=true", {}),
        ("https://api.z.ai/api/anthropic/v1/messages", {}),
        (
            "https://x.azure.com/openai/deployments/d/chat/completions?api-version=1",
            "https://x.azure.com/openai/deployments/d",
        ),
        ("https://g.com/v1beta/openai/chat/completions", "https://g.com/v1beta/openai/"),
        ("https://other.com/v1/chat/completions", "https://g.com/v1beta/openai"),
    ],
)
def test_a_request_goes_where_its_client_means_it_to(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry, url: str, settings: Any
) -> None:
    configured = {"upstreams": [{"url": settings}]} if settings else {}
    assert client(**configured).post(url, json=BODY).status_code == 200
    assert [str(request.url) for request in upstream.requests] == [url]
    assert used(registry) > 0


def test_a_path_that_is_no_apis_is_not_passed_on(client: Making, upstream: Upstream) -> None:
    response = client().post("https://provider/chat/completions", json=BODY)
    assert (response.status_code, upstream.requests) == (404, [])
    assert "begin with /v1" in response.json()["error"]["message"]


def test_a_request_without_a_thread_is_refused(client: Making, upstream: Upstream) -> None:
    response = client(None).post(CHAT, json=BODY)
    assert (response.status_code, upstream.requests) == (400, [])
    assert "x-thread-id" in response.json()["error"]["message"]


def test_a_client_of_the_other_library_is_told_so(upstream: Upstream, registry: ThreadBudgetRegistry) -> None:
    transport: Any = thread_budget.httpx.BudgetTransport(registry, "a", transport=httpx2.MockTransport(upstream))
    with httpx2.Client(transport=transport) as client, pytest.raises(TypeError, match=r"thread_budget\.httpx2"):
        client.post(CHAT, json=BODY)
    assert upstream.requests == []


def test_settings_that_are_wrong(registry: ThreadBudgetRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"retrys": 1}, "unknown field `retrys`"),
        ({"max_request_bytes": "all"}, "invalid type: string"),
        ({"upstreams": ["https://provider"]}, "invalid type: string"),
        ({"thresholds": []}, "thresholds: set this where the registry is made"),
        ({"upstreams": [{"url": "provider"}]}, "expected http"),
        ({"upstreams": [{"url": "https://provider", "key_env": "NO_SUCH_KEY"}]}, "NO_SUCH_KEY"),
    ]
    for settings, said in wrong:
        with pytest.raises(ValueError, match=said):
            BudgetTransport(registry, "a", settings=settings)
    for thread in ("", " a", "a\nb"):
        with pytest.raises(ValueError, match="thread"):
            BudgetTransport(registry, thread)


def test_a_provider_may_have_a_key_of_its_own(
    client: Making, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER_KEY", "own")
    own = client(upstreams=[{"url": "https://provider/v1", "key_env": "PROVIDER_KEY"}])
    own.post(CHAT, json=BODY, headers={"authorization": "Bearer client"})
    assert upstream.requests[0].headers["authorization"] == "Bearer own"


def test_the_next_provider_is_asked_where_one_fails(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "provider":
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, json={"usage": USAGE})

    upstream.answer = answer
    two = client(upstreams=[{"url": "https://provider/v1"}, {"url": "https://other/v1"}], retries=1, retry_pause_ms=1)
    assert two.post(CHAT, json=BODY).status_code == 200
    assert [request.url.host for request in upstream.requests] == ["provider", "provider", "other"]
    assert used(registry) == 42


@pytest.mark.parametrize(
    ("error", "lost"),
    [(httpx2.ConnectError("refused"), False), (httpx2.ReadError("reset"), True), (httpx2.WriteError("reset"), True)],
)
def test_what_may_have_been_billed_is_charged(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry, error: Exception, lost: bool
) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise error

    upstream.answer = answer
    response = client(retries=0).post(CHAT, json=BODY)
    assert (response.status_code, response.json()["error"]["type"]) == (502, "upstream_error")
    assert (used(registry) > 0) == lost


def test_what_is_no_error_of_the_library_ends_the_exchange(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise KeyboardInterrupt

    upstream.answer = answer
    with pytest.raises(KeyboardInterrupt):
        client().post(CHAT, json=BODY)
    assert used(registry) > 0


@pytest.mark.parametrize("is_read", [False, True])
def test_a_stream_that_is_forgotten_is_counted_as_far_as_it_came(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry, is_read: bool
) -> None:
    event = b'data: {"choices":[{"delta":{"content":"a word"}}]}\n\n'
    headers = {"content-type": "text/event-stream"}
    upstream.answer = lambda _: httpx2.Response(200, content=iter([event] * 10), headers=headers)
    made = client()
    response = made.send(made.build_request("POST", CHAT, json={**BODY, "stream": True}), stream=True)
    if is_read:
        # Kept from being closed by its own end.
        pieces = response.stream.__iter__()  # type: ignore[union-attr]
        assert next(pieces) == event
        del pieces
    assert registry.held_tokens("a") > 0
    del response
    gc.collect()
    assert used(registry) > 0


def test_one_that_does_not_block_is_too(upstream: Upstream, registry: ThreadBudgetRegistry) -> None:
    async def events() -> AsyncIterator[bytes]:
        yield b'data: {"choices":[{"delta":{"content":"a word"}}]}\n\n'

    upstream.answer = lambda _: httpx2.Response(200, content=events(), headers={"content-type": "text/event-stream"})

    async def forget() -> None:
        transport = AsyncBudgetTransport(registry, "a", transport=httpx2.MockTransport(upstream))
        async with httpx2.AsyncClient(transport=transport) as client:
            request = client.build_request("POST", CHAT, json={**BODY, "stream": True})
            response = await client.send(request, stream=True)
            assert registry.held_tokens("a") > 0
            del response
            gc.collect()
            assert used(registry) > 0

    asyncio.run(forget())


def test_an_idempotency_key_is_in_one_request_at_a_time(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    once, statuses = client(), []

    def again(body: Any, **headers: str) -> int:
        return once.post(CHAT, json=body, headers={"idempotency-key": "k", **headers}).status_code

    def answer(_: httpx2.Request) -> httpx2.Response:
        if len(upstream.requests) == 1:
            statuses.append(again(BODY))
            statuses.append(again({**BODY, "user": "u"}))
        return httpx2.Response(200, json={"usage": USAGE})

    upstream.answer = answer
    assert again(BODY) == 200
    assert statuses == [409, 422]
    assert again(BODY) == 200
    assert used(registry) == 84


def test_keys_are_forgotten(registry: ThreadBudgetRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, now = desk_of(registry), 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("thread_budget._desk._MOST_KEYS", 3)
    assert desk.claim("under way", b"") is None
    for key in "abcde":
        assert desk.claim(key, b"1") is None
        desk.give_back(key)
    assert desk.claim("e", b"2") == "other-body"
    assert desk.claim("a", b"2") is None
    desk.give_back("a")
    now = 24 * 60 * 60
    assert desk.claim("a", b"3") is None
    assert desk.claim("under way", b"") == "in-flight"


def test_a_response_in_the_background_is_held_until_it_is_asked_for(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    made = client()
    usage = {"input_tokens": 30, "output_tokens": 12, "total_tokens": 42}
    url = "https://provider/v1/responses"
    body = {"model": "m", "input": "Hello", "background": True, "max_output_tokens": 50}
    upstream.answer = lambda _: httpx2.Response(200, json={"id": "resp_1", "status": "queued"})
    assert made.post(url, json=body).status_code == 200
    assert registry.held_tokens("a") > 0
    upstream.answer = lambda _: httpx2.Response(200, json={"id": "resp_1", "status": "completed", "usage": usage})
    assert made.get(f"{url}/resp_1").json()["status"] == "completed"
    assert used(registry) == 42
    made.get(f"{url}/resp_1")
    assert used(registry) == 42


def test_a_response_in_the_background_that_nobody_asks_for_is_charged(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    made = client(background_timeout_ms=0)
    body = {"model": "m", "input": "Hello", "background": True, "max_output_tokens": 50}
    upstream.answer = lambda _: httpx2.Response(200, json={"id": "resp_1", "status": "queued"})
    made.post("https://provider/v1/responses", json=body)
    held = registry.held_tokens("a")
    upstream.answer = lambda _: httpx2.Response(200, json={"data": []})
    made.get("https://provider/v1/models")
    assert used(registry) == held > 50


def test_threads_share_what_the_settings_say(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    made = client(scopes=[{"by": "header", "header": "x-team", "limit": 300}])
    statuses = [
        made.post(CHAT, json=BODY, headers={"x-team": "red", "x-thread-id": thread}).status_code for thread in "abc" * 3
    ]
    assert statuses == [200] * 5 + [400] * 4
    by_thread = {thread: usage["total_tokens"] for thread, usage in registry.get_all_usage().items()}
    assert sorted(by_thread.values()) == [42, 84, 84, 210]
    assert all("red" in thread for thread in by_thread)


def test_the_policy_has_the_registrys_thresholds_of_now(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    made = client()
    registry.set_thresholds([Threshold(100, "final")])  # type: ignore[arg-type]
    registry.consume("a", 1_000, 0)
    assert made.post(CHAT, json=BODY).headers["x-budget-warning"] == "final"


def test_a_body_that_is_too_long(client: Making, upstream: Upstream) -> None:
    assert client(max_request_bytes=100).post(CHAT, json={**BODY, "user": "u" * 100}).status_code == 413
    assert upstream.requests == []


def test_a_registry_that_is_lost_admits_nothing(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry
) -> None:
    made = client()
    registry._calls.instance.lost = RegistryLostError("unreachable")
    with pytest.raises(RegistryLostError):
        made.post(CHAT, json=BODY)
    assert upstream.requests == []


def test_a_policy_that_traps_costs_no_more_than_the_request(
    client: Making, upstream: Upstream, registry: ThreadBudgetRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client()
    begun: list[Calls] = []
    begin = Policy.begin

    def noted(policy: Policy) -> Calls:
        begun.append(begin(policy))
        return begun[-1]

    def answer(_: httpx2.Request) -> httpx2.Response:
        begun[-1].instance.lost = PolicyLostError("unreachable")
        return httpx2.Response(200, json={"usage": USAGE})

    monkeypatch.setattr(Policy, "begin", noted)
    upstream.answer = answer
    with pytest.raises(PolicyLostError):
        made.post(CHAT, json=BODY)
    assert used(registry) > 0


def test_what_the_policy_logs_is_logged(client: Making, upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    upstream.answer = lambda _: httpx2.Response(503)
    with caplog.at_level(logging.WARNING, "thread_budget"):
        client(retries=0).post(CHAT, json=BODY)
    assert "upstream https://provider/v1: status 503" in caplog.text
