"""A program written for the class that this package replaces, with its import changed."""

from collections.abc import Iterator

import pytest

from thread_budget import (
    BudgetExhaustedError,
    BudgetWarning,
    ThreadBudgetRegistry,
    configure_budget_registry,
    get_budget_registry,
    reset_budget_registry,
)


@pytest.fixture(autouse=True)
def _fresh_global_registry() -> Iterator[None]:
    reset_budget_registry()
    yield
    reset_budget_registry()


def test_the_loop_of_an_agent() -> None:
    configure_budget_registry(max_tokens_per_thread=10_000)
    registry = get_budget_registry()
    log: list[str] = []
    for _ in range(10):
        try:
            registry.check_budget("agent-7", 2_000)
        except BudgetExhaustedError as error:
            log.append(f"{error.thread_id} {error.used} {error.max_tokens} {error.requested}")
            break
        budget, crossed = registry.consume("agent-7", 1_400, 300)
        for threshold in crossed:
            warning = BudgetWarning.from_threshold(threshold)
            log.append(warning.message)
            assert warning.severity == "warning"
            assert warning.percent_used == threshold.percent_used == 85.0
            assert (warning.tokens_used, warning.tokens_remaining, warning.max_tokens) == (8_500, 1_500, 10_000)
        assert budget.total_tokens == budget.prompt_tokens + budget.completion_tokens
        assert budget.can_consume(budget.remaining)
        assert not budget.is_exhausted
    assert log == ["Note: 85% of the token budget is used, 1,500 tokens are left.", "agent-7 8500 10000 2000"]


def test_a_budget_is_live() -> None:
    registry = ThreadBudgetRegistry(max_tokens_per_thread=1_000)
    budget = registry.get_budget("a")
    assert (budget.thread_id, budget.max_tokens, budget.total_tokens, budget.percent_used) == ("a", 1_000, 0, 0.0)
    from_consume, crossed = registry.consume("a", 500, 300)
    assert [item.threshold_percent for item in crossed] == [75]
    assert (budget.total_tokens, budget.remaining, budget.request_count) == (800, 200, 1)
    assert budget.triggered_thresholds == [75]
    assert budget.percent_used == 80.0
    registry.consume("a", 200, 0)
    assert from_consume.total_tokens == 1_000
    assert from_consume.is_exhausted
    assert str(registry.get_usage("a")).startswith("Usage(prompt_tokens=700, completion_tokens=300")


def test_a_budget_keeps_what_was_forgotten() -> None:
    registry = ThreadBudgetRegistry(1_000)
    for forget in (registry.reset_thread, registry.cleanup_thread, lambda _: registry.clear()):
        budget, _ = registry.consume("a", 700, 0)
        forget("a")
        assert budget.total_tokens == 700
        assert budget.is_detached
        assert [item.threshold_percent for item in budget.consume(100, 0)] == [75]
        fresh, _ = registry.consume("a", 1, 0)
        assert (fresh.total_tokens, budget.total_tokens) == (1, 800)
        registry.clear()


def test_the_global_registry() -> None:
    registry = get_budget_registry()
    assert get_budget_registry() is registry
    assert registry.max_tokens_per_thread == 100_000
    registry.get_budget("a")
    assert configure_budget_registry(50) is registry
    assert (registry.get_budget("a").max_tokens, registry.get_budget("b").max_tokens) == (100_000, 50)
    reset_budget_registry()
    assert get_budget_registry() is not registry
    assert not get_budget_registry().has_budget("a")


def test_looking_and_forgetting() -> None:
    registry = ThreadBudgetRegistry(100)
    registry.consume("b", 80, 0)
    registry.consume("a", 1, 2)
    assert registry.has_budget("a")
    assert list(registry.get_all_usage()) == ["a", "b"]
    assert registry.get_all_usage()["b"].remaining == 20
    final = registry.cleanup_thread("b")
    assert final is not None
    assert (final.usage.total_tokens, final.percent_used, final.triggered_thresholds) == (80, 80.0, [75])
    assert registry.cleanup_thread("b") is None
    registry.reset_thread("a")
    assert registry.get_usage("a") is None
    registry.clear()
    assert registry.get_all_usage() == {}
