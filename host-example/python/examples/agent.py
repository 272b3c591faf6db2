"""An agent that keeps to its budget: it wraps up when it is warned, and stops when it is refused. Runs offline."""

from dataclasses import dataclass

from thread_budget import BudgetExhaustedError, BudgetWarning, ThreadBudgetRegistry


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


def model(conversation: list[str]) -> Response:
    """Stands in for an LLM: it reads the whole conversation at every turn, so that each costs more than the last."""
    if "Consider wrapping up" in conversation[-1]:
        return Response("It is the cache; I hand over.", Usage(prompt_tokens=150, completion_tokens=100))
    text = f"I look at file {len(conversation)}."
    return Response(text, Usage(prompt_tokens=200 + 50 * len(conversation), completion_tokens=100))


def run(registry: ThreadBudgetRegistry, agent: str) -> None:
    """Work until done or out of tokens."""
    conversation = ["Find the bug."]
    estimate = 700
    for turn in range(1, 20):
        try:
            # Held while the call is in flight, so that an agent's concurrent calls cannot overspend together.
            with registry.reserve(agent, estimate) as reservation:
                response = model(conversation)
                budget, crossed = reservation.commit(response.usage.prompt_tokens, response.usage.completion_tokens)
        except BudgetExhaustedError as error:
            print(f"{agent} turn {turn}: stopped, {error}")
            return
        print(f"{agent} turn {turn}: {response.text} {budget.total_tokens:,} of {budget.max_tokens:,} tokens")
        conversation.append(response.text)
        if response.text.endswith("I hand over."):
            return
        for threshold in crossed:
            if threshold.thread_id == agent:
                warning = BudgetWarning.from_threshold(threshold)
                conversation.append(warning.message)
                print(f"{agent} turn {turn}: {warning.message}")
                if warning.severity == "critical":
                    estimate = 300  # what it takes to wrap up


def main() -> None:
    """Two agents of a team, which has a budget of its own."""
    registry = ThreadBudgetRegistry(max_tokens_per_thread=3_850)
    registry.open_thread("team", max_tokens=6_000)
    for agent in ("scout", "fixer"):
        with registry.open_thread(agent, parent="team"):
            run(registry, agent)
    for warning in registry.take_warnings("team"):
        print(f"team: {warning.message}")
    for thread_id, usage in registry.get_all_usage().items():
        print(
            f"{thread_id:>6} {usage.total_tokens:6,} of {usage.max_tokens:6,} tokens in {usage.request_count} requests"
        )


if __name__ == "__main__":
    main()
