"""Responses of the real packages, made offline."""

from typing import Any

import pytest
from anthropic.types import Message
from anthropic.types import Usage as AnthropicUsage
from anthropic.types.beta import BetaMessage
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from thread_budget import ThreadBudgetRegistry

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [],
    "usage": {
        "prompt_tokens": 1_000,
        "completion_tokens": 300,
        "total_tokens": 1_300,
        "prompt_tokens_details": {"cached_tokens": 900},
        "completion_tokens_details": {"reasoning_tokens": 200},
    },
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 70,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 5},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 10},
        "total_tokens": 90,
    },
}
EMBEDDING = {"object": "list", "data": [], "model": "m", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": "end_turn",
    "stop_sequence": None,
}
CACHED = {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3_000}
PLAIN = {"input_tokens": 10, "output_tokens": 5}


@pytest.mark.parametrize(
    ("response", "tokens"),
    [
        (ChatCompletion.model_validate(CHAT), (1_000, 300)),
        (ChatCompletionChunk.model_validate({**CHAT, "object": "chat.completion.chunk"}), (1_000, 300)),
        (Completion.model_validate({**CHAT, "object": "text_completion"}), (1_000, 300)),
        (Response.model_validate(RESPONSE), (70, 20)),
        (CreateEmbeddingResponse.model_validate(EMBEDDING), (8, 0)),
        (Message.model_validate({**MESSAGE, "usage": CACHED}), (3_210, 5)),
        (Message.model_validate({**MESSAGE, "usage": PLAIN}), (10, 5)),
        (BetaMessage.model_validate({**MESSAGE, "usage": CACHED}), (3_210, 5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_response_is_recorded(response: object, tokens: tuple[int, int]) -> None:
    registry = ThreadBudgetRegistry(1_000)
    budget, crossed = registry.record_response("a", response)
    assert (budget.prompt_tokens, budget.completion_tokens) == tokens
    assert len(crossed) == (3 if sum(tokens) >= 950 else 0)


def test_a_response_without_usage() -> None:
    registry = ThreadBudgetRegistry()
    for response in (ChatCompletion.model_validate({**CHAT, "usage": None}), object(), None):
        with pytest.raises(ValueError, match="has no usage"):
            registry.record_response("a", response)
    with pytest.raises(TypeError, match="neither prompt_tokens nor input_tokens"):
        registry.record_response("a", type("Other", (), {"usage": object()})())
    assert not registry.has_budget("a")


def test_the_documented_names_are_still_there() -> None:
    # Were one renamed, the tokens would silently be left out.
    assert {"input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"} <= set(
        AnthropicUsage.model_fields
    )
