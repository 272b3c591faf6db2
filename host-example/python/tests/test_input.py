"""Bad input is an error of Python's kind, and the registry stays usable."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from thread_budget import (
    Acknowledgement,
    BudgetThresholdCrossed,
    InvalidRequestIdError,
    InvalidThreadIdError,
    Severity,
    ThreadBudget,
    ThreadBudgetRegistry,
    Threshold,
)

LARGEST = 2**64 - 1


@pytest.fixture
def registry() -> ThreadBudgetRegistry:
    # So little memory that an argument of megabytes would trap.
    return ThreadBudgetRegistry(100, memory_limit=1 << 20)


@pytest.mark.parametrize("count", [-1, LARGEST + 1, -(10**30), 10**30])
def test_counts_out_of_range(registry: ThreadBudgetRegistry, count: int) -> None:
    for call in counting(registry):
        with pytest.raises(ValueError, match="expected 0 to 18,446,744,073,709,551,615, not"):
            call(count)
    still_works(registry)


@pytest.mark.parametrize("count", [True, 1.0, float("nan"), "1", None, b"1", [1], 1j])
def test_counts_that_are_none(registry: ThreadBudgetRegistry, count: object) -> None:
    for call in counting(registry):
        with pytest.raises(TypeError, match=f"expected an int, not {type(count).__name__}"):
            call(count)
    still_works(registry)


def test_the_message_names_the_argument(registry: ThreadBudgetRegistry) -> None:
    with pytest.raises(ValueError, match=r"^completion_tokens: "):
        registry.consume("a", 1, -1)
    with pytest.raises(TypeError, match=r"^thread_id: expected a str, not int"):
        registry.consume(7, 1, 1)  # type: ignore[arg-type]


def test_integers_of_other_libraries(registry: ThreadBudgetRegistry) -> None:
    class Count:
        def __index__(self) -> int:
            return 7

    assert registry.consume("a", Count(), 0).budget.total_tokens == 7  # type: ignore[arg-type]


def test_the_largest_count(registry: ThreadBudgetRegistry) -> None:
    budget, _ = registry.consume("a", LARGEST, LARGEST)
    assert (budget.prompt_tokens, budget.total_tokens, budget.remaining) == (LARGEST, LARGEST, 0)


@pytest.mark.parametrize("thread_id", ["", "a" * 1_025, "é" * 513, "a" * 10_000_000])
def test_thread_ids_of_wrong_length(registry: ThreadBudgetRegistry, thread_id: str) -> None:
    for call in creating(registry):
        with pytest.raises(InvalidThreadIdError):
            call(thread_id)
    assert not registry.has_budget(thread_id)
    assert registry.get_usage(thread_id) is None
    assert registry.held_tokens(thread_id) == 0
    assert registry.pending_warnings(thread_id) == []
    assert not registry.release(thread_id, "request")
    assert registry.snapshot(after=thread_id) == []
    registry.acknowledge_warnings(thread_id, [Acknowledgement(75, 1)])
    assert registry.cleanup_thread(thread_id) is None
    registry.reset_thread(thread_id)
    still_works(registry)


@pytest.mark.parametrize("thread_id", ["\ud800", "a\udfffb"])
def test_thread_ids_that_are_not_text(registry: ThreadBudgetRegistry, thread_id: str) -> None:
    for call in (*creating(registry), registry.has_budget, registry.get_usage, registry.cleanup_thread):
        with pytest.raises(ValueError, match="lone surrogate"):
            call(thread_id)
    still_works(registry)


@pytest.mark.parametrize("thread_id", [None, 7, b"a", ["a"]])
def test_thread_ids_that_are_not_str(registry: ThreadBudgetRegistry, thread_id: object) -> None:
    for call in (*creating(registry), registry.has_budget, registry.get_usage, registry.cleanup_thread):
        with pytest.raises(TypeError, match="expected a str"):
            call(thread_id)  # type: ignore[arg-type]
    still_works(registry)


@pytest.mark.parametrize("thread_id", ["a\0b", "\0", "日本語", "🦀", "a" * 1_024, "é" * 512])
def test_any_text_is_a_thread_id(registry: ThreadBudgetRegistry, thread_id: str) -> None:
    budget, _ = registry.consume(thread_id, 80, 0)
    assert list(registry.get_all_usage()) == [thread_id]
    assert budget.thread_id == thread_id


@pytest.mark.parametrize("request_id", ["", "a" * 257, "é" * 129, "a" * 10_000_000])
def test_request_ids_of_wrong_length(registry: ThreadBudgetRegistry, request_id: str) -> None:
    with pytest.raises(InvalidRequestIdError):
        registry.settle("a", request_id, 1, 1, remember=True)
    with pytest.raises(InvalidRequestIdError):
        registry.hold("a", 1, 1, request_id=request_id)
    assert not registry.release("a", request_id)
    still_works(registry)


def test_other_records(registry: ThreadBudgetRegistry) -> None:
    with pytest.raises(TypeError, match="thresholds: expected a Threshold, not tuple"):
        registry.set_thresholds([(75, "warning")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="urgent"):
        registry.set_thresholds([Threshold(75, "urgent")])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 0 to 4,294,967,295, not"):
        registry.set_thresholds([Threshold(1 << 32, Severity.FINAL)])
    with pytest.raises(ValueError, match="max_threads"):
        registry.set_max_threads(-1)
    with pytest.raises(TypeError, match="entries: a UsageEntry needs 'completion_tokens'"):
        registry.consume_batch([{"thread_id": "a", "prompt_tokens": 1}])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="entries: a UsageEntry has no 'colour'"):
        registry.consume_batch([{"colour": 1}])  # type: ignore[list-item]
    registry.consume("bad", 1)
    [state] = registry.snapshot()
    registry.clear()
    with pytest.raises(TypeError, match="states: opened: expected a bool, not int"):
        registry.restore([replace(state, opened=1)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="crossed: percent_used: expected a float, not str"):
        registry.budget_warning(BudgetThresholdCrossed(75, "final", "75", 1, 1, 1))  # type: ignore[arg-type]
    still_works(registry)


def counting(registry: ThreadBudgetRegistry) -> list[Callable[[object], object]]:
    return [
        lambda count: registry.consume("bad", count, 0),
        lambda count: registry.consume("bad", 0, count),
        lambda count: registry.settle("bad", "request", 0, count, remember=True),
        lambda count: registry.check_budget("bad", count),
        lambda count: registry.hold("bad", count, 0),
        lambda count: registry.hold("bad", 0, count),
        lambda count: registry.hold("bad", 0, 0, deadline=count),
        lambda count: registry.set_limit("bad", count),
        lambda count: registry.get_budget("a").consume(count, 0),
        lambda count: registry.get_budget("a").can_consume(count),
        lambda count: ThreadBudget(count),
        lambda count: ThreadBudget(1, count),
    ]


def creating(registry: ThreadBudgetRegistry) -> list[Callable[[str], object]]:
    return [
        registry.get_budget,
        registry.open_thread,
        registry.check_budget,
        lambda thread_id: registry.consume(thread_id, 1, 1),
        lambda thread_id: registry.settle(thread_id, "request", 1, 1, remember=True),
        lambda thread_id: registry.hold(thread_id, 1, 1),
        lambda thread_id: registry.set_limit(thread_id, 1),
    ]


def still_works(registry: ThreadBudgetRegistry) -> None:
    assert not registry.has_budget("bad")
    registry.clear()
    assert registry.consume("a", 50, 30).budget.total_tokens == 80
    assert list(registry.get_all_usage()) == ["a"]
