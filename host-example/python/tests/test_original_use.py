"""Programs written for the class that this package replaces, with their import changed."""

import json
from collections.abc import Iterator

import pytest

from thread_budget import (
    DEFAULT_WARNING_THRESHOLDS,
    BudgetExhaustedError,
    BudgetThresholdCrossed,
    BudgetWarning,
    ThreadBudget,
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
            assert registry.check_budget("agent-7-of-the-team", 2_000) is True
        except BudgetExhaustedError as error:
            log.append(f"{error} ({error.thread_id} {error.used} {error.max_tokens})")
            break
        budget, crossed = registry.consume("agent-7-of-the-team", prompt_tokens=1_400, completion_tokens=300)
        for threshold in crossed:
            warning = BudgetWarning(
                percent_used=threshold.percent_used,
                tokens_used=threshold.tokens_used,
                tokens_remaining=threshold.tokens_remaining,
                max_tokens=threshold.max_tokens,
                severity=threshold.severity,  # type: ignore[arg-type]
                message=f"{threshold.severity}: {threshold.percent_used:.0f}%",
            )
            log.append(warning.message)
        assert budget.total_tokens == budget.prompt_tokens + budget.completion_tokens
        assert budget.can_consume(budget.remaining)
        assert not budget.is_exhausted
    assert log == [
        "warning: 85%",
        "Thread agent-7-... budget exhausted: 8500/10000 tokens used (agent-7-of-the-team 8500 10000)",
    ]


def test_counts_can_be_left_out() -> None:
    registry = ThreadBudgetRegistry(1_000)
    registry.consume("a")
    registry.consume("a", 10)
    registry.consume("a", completion_tokens=5)
    assert registry.check_budget("a") is True
    usage = registry.get_usage("a")
    assert usage == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "remaining": 985,
        "max_tokens": 1_000,
        "request_count": 3,
    }
    assert type(usage) is dict
    assert json.loads(json.dumps(registry.get_all_usage())) == {"a": usage}
    assert registry.get_usage("b") is None


def test_an_error_is_made_and_shown_as_before() -> None:
    error = BudgetExhaustedError(thread_id="0123456789", used=12_000, max_tokens=10_000)
    assert str(error) == "Thread 01234567... budget exhausted: 12000/10000 tokens used"
    registry = ThreadBudgetRegistry(100)
    registry.consume("a", 100)
    for estimate in (0, 1):
        with pytest.raises(BudgetExhaustedError, match=r"^Thread a\.\.\. budget exhausted: 100/100 tokens used$"):
            registry.check_budget("a", estimate)


def test_a_budget_is_live() -> None:
    registry = ThreadBudgetRegistry(max_tokens_per_thread=1_000)
    budget = registry.get_budget("a")
    assert (budget.max_tokens, budget.total_tokens, budget.percent_used) == (1_000, 0, 0.0)
    from_consume, crossed = registry.consume("a", 500, 300)
    assert from_consume is budget is registry.get_budget("a")
    assert [item.threshold_percent for item in crossed] == [75]
    assert (budget.total_tokens, budget.remaining, budget.request_count) == (800, 200, 1)
    assert budget.triggered_thresholds == {75}
    assert budget.percent_used == 80.0
    registry.consume("a", 200, 0)
    assert budget.total_tokens == 1_000
    assert budget.is_exhausted


def test_a_crossing_is_equal_to_what_it_was() -> None:
    _, [crossed] = ThreadBudgetRegistry(1_000).consume("a", 800)
    assert crossed == BudgetThresholdCrossed(75, "warning", 80.0, 800, 200, 1_000)
    assert json.dumps(crossed.severity) == '"warning"'
    assert f"{crossed.severity}" == "warning"


def test_a_budget_stands_alone() -> None:
    budget = ThreadBudget(max_tokens=1_000)
    counts = "prompt_tokens=0, completion_tokens=0, request_count=0"
    assert repr(budget) == f"ThreadBudget(max_tokens=1000, {counts}, triggered_thresholds=set())"
    budget.consume(prompt_tokens=400)
    assert budget.can_consume(600)
    assert not budget.can_consume(601)
    budget.consume(completion_tokens=370)
    assert budget.triggered_thresholds == set()
    assert budget.check_thresholds() == [BudgetThresholdCrossed(75, "warning", 77.0, 770, 230, 1_000)]
    assert budget.check_thresholds() == []
    assert [(each.threshold_percent, each.severity) for each in budget.check_thresholds({50: "half", 99: "no"})] == [
        (50, "half")
    ]
    assert budget.triggered_thresholds == {50, 75}
    budget.consume(230)
    assert budget.is_exhausted
    assert (budget.remaining, budget.request_count, budget.percent_used) == (0, 3, 100.0)


def test_a_budget_alone_goes_on_from_counts() -> None:
    budget = ThreadBudget(1_000, prompt_tokens=700, completion_tokens=60, request_count=2, triggered_thresholds={75})
    other = ThreadBudget(1_000, 700, 60)
    assert budget.check_thresholds() == []
    assert [each.threshold_percent for each in other.check_thresholds()] == [75]
    budget.consume(1)
    assert (budget.total_tokens, other.total_tokens) == (761, 760)
    assert (budget.request_count, other.request_count) == (3, 0)
    assert ThreadBudget(0).percent_used == 0.0


def test_thresholds_are_looked_at_by_the_registry_or_when_asked() -> None:
    registry = ThreadBudgetRegistry(1_000)
    budget = registry.get_budget("a")
    budget.consume(800)
    assert budget.triggered_thresholds == set()
    assert [each.threshold_percent for each in registry.consume("a")[1]] == [75]
    budget.consume(100)
    assert [each.severity for each in budget.check_thresholds({90: "nearly", 75: "known"})] == ["nearly"]
    assert registry.consume("a")[1] == []
    assert registry.get_usage("a") == budget.usage


def test_the_default_thresholds() -> None:
    in_force = ThreadBudgetRegistry().thresholds
    assert {each.percent: each.severity for each in in_force} == DEFAULT_WARNING_THRESHOLDS


def test_a_budget_keeps_what_was_forgotten() -> None:
    registry = ThreadBudgetRegistry(1_000)
    for forget in (registry.reset_thread, registry.cleanup_thread, lambda _: registry.clear()):
        other = registry.get_budget("b")
        budget, _ = registry.consume("a", 700)
        forget("a")
        assert budget.total_tokens == 700
        budget.consume(100)
        assert [item.threshold_percent for item in budget.check_thresholds()] == [75]
        fresh, _ = registry.consume("a", 1)
        assert (fresh.total_tokens, budget.total_tokens) == (1, 800)
        assert (registry.get_budget("b") is other) == (not other.is_detached)
        registry.clear()


def test_a_final_budget_has_all_that_a_budget_has() -> None:
    registry = ThreadBudgetRegistry(1_000)
    registry.consume("a", 800, 50)
    final = registry.cleanup_thread("a")
    assert final is not None
    assert (final.max_tokens, final.prompt_tokens, final.completion_tokens, final.total_tokens) == (1_000, 800, 50, 850)
    assert (final.remaining, final.request_count, final.percent_used, final.is_exhausted) == (150, 1, 85.0, False)
    assert final.triggered_thresholds == {75}
    assert final.can_consume(150)
    assert registry.cleanup_thread("a") is None
    assert not registry.has_budget("a")
    held, _ = registry.consume("b", 1)
    assert registry.cleanup_thread("b") is held


def test_the_global_registry() -> None:
    registry = get_budget_registry()
    assert get_budget_registry() is registry
    assert registry.max_tokens_per_thread == 100_000
    budget = registry.get_budget("a")
    assert configure_budget_registry(50) is registry
    assert (registry.get_budget("a").max_tokens, registry.get_budget("b").max_tokens) == (100_000, 50)
    reset_budget_registry()
    assert not registry.has_budget("a")
    assert budget.is_detached
    assert get_budget_registry() is not registry
    assert not get_budget_registry().has_budget("a")


def test_looking_and_forgetting() -> None:
    registry = ThreadBudgetRegistry(100)
    registry.consume("b", 80)
    registry.consume("a", 1, 2)
    assert registry.has_budget("a")
    assert list(registry.get_all_usage()) == ["a", "b"]
    assert registry.get_all_usage()["b"]["remaining"] == 20
    registry.reset_thread("a")
    assert registry.get_usage("a") is None
    registry.clear()
    assert registry.get_all_usage() == {}
