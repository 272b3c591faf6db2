"""An agent that keeps to its budget: it wraps up when it is warned, and stops when it is refused. Runs offline."""

from dataclasses import dataclass

from thread_budget import BudgetExhaustedError, ThreadBudgetRegistry


@dataclass
class Usage:
    """The usage of a response, as the `openai` package has it."""

    prompt_tokens: int
    completion_tokens: int


@dataclass
class Response:
    """A response, as far as it matters here."""

    text: str
    usage: Usage


def tokens_of(conversation: list[str]) -> int:
    """What the model reads: the whole conversation, so that each turn costs more than the last; to wrap up, a part."""
    return 150 if "Consider wrapping up" in conversation[-1] else 200 + 50 * len(conversation)


def model(conversation: list[str]) -> Response:
    """Stands in for an LLM."""
    text = f"I look at file {len(conversation)}."
    if "Consider wrapping up" in conversation[-1]:
        text = "It is the cache; I hand over."
    return Response(text, Usage(prompt_tokens=tokens_of(conversation), completion_tokens=100))


def run(registry: ThreadBudgetRegistry, agent: str) -> None:
    """Work until done or out of tokens."""
    conversation = ["Find the bug."]
    for turn in range(1, 20):
        try:
            # Held while the call is in flight, so that an agent's concurrent calls cannot overspend together.
            with registry.hold(agent, tokens_of(conversation), 200, least_completion_tokens=50) as hold:
                hold.sent()
                response = model(conversation)
                consumed = hold.settle(response.usage.prompt_tokens, response.usage.completion_tokens)
        except BudgetExhaustedError as error:
            print(f"{agent} turn {turn}: stopped, {error}")
            return
        print(f"{agent} turn {turn}: {response.text} {consumed.usage['total_tokens']:,} tokens, room {consumed.room:,}")
        conversation.append(response.text)
        if response.text.endswith("I hand over."):
            return
        # The agent reads its warnings with the next turn.
        warnings = registry.pending_warnings(agent)
        for warning in warnings:
            conversation.append(warning.message)
            print(f"{agent} turn {turn}: {warning.message}")
        registry.acknowledge_warnings(agent, warnings)


def main() -> None:
    """Two agents of a team, which has a budget of its own."""
    registry = ThreadBudgetRegistry(max_tokens_per_thread=3_850)
    registry.open_thread("team", max_tokens=6_000)
    for agent in ("scout", "fixer"):
        registry.open_thread(agent, parent="team")
        run(registry, agent)
    for warning in registry.pending_warnings("team"):
        print(f"team: {warning.message}")
    for thread_id, usage in registry.get_all_usage().items():
        used = f"{usage['total_tokens']:6,} of {usage['max_tokens']:6,} tokens"
        print(f"{thread_id:>6} {used} in {usage['request_count']} requests")


if __name__ == "__main__":
    main()
