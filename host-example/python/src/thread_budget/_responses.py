"""What a response of an LLM provider's SDK says it used."""

from __future__ import annotations


def tokens_of(response: object) -> tuple[int, int]:
    """Prompt and completion tokens of a response, by the names that the SDKs give them.

    OpenAI's chat completions, legacy completions and embeddings: `prompt_tokens`, `completion_tokens` (embeddings have
    none). OpenAI's responses: `input_tokens`, `output_tokens`. In these, cached tokens are part of the prompt and
    reasoning tokens part of the completion. Anthropic's messages: `input_tokens`, `output_tokens`, and beside the
    former, not in it, `cache_creation_input_tokens` and `cache_read_input_tokens`.
    """
    usage = getattr(response, "usage", None)
    if usage is None:
        hint = "; a stream of OpenAI's has it with stream_options={'include_usage': True}, in its last chunk"
        raise ValueError(f"this {type(response).__name__} has no usage{hint}")
    if hasattr(usage, "prompt_tokens"):
        return usage.prompt_tokens, getattr(usage, "completion_tokens", 0)
    if hasattr(usage, "input_tokens") and hasattr(usage, "output_tokens"):
        cached = (getattr(usage, f"cache_{kind}_input_tokens", None) or 0 for kind in ("creation", "read"))
        return usage.input_tokens + sum(cached), usage.output_tokens
    raise TypeError(f"the usage of this {type(response).__name__} has neither prompt_tokens nor input_tokens")
