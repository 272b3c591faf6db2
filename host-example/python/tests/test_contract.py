"""What the contract has beyond the class that this package replaces."""

import json
import pickle
from dataclasses import asdict

import pytest

from thread_budget import (
    BatchTooLargeError,
    BudgetExhaustedError,
    InvalidStateError,
    InvalidThresholdError,
    OptionsDifferError,
    ParentCycleError,
    RegistryMemoryError,
    Severity,
    ThreadBudgetRegistry,
    ThreadState,
    Threshold,
    TooDeepError,
    TooManyThreadsError,
    UnknownParentError,
    UsageEntry,
)


def test_a_reservation_is_committed() -> None:
    registry = ThreadBudgetRegistry(1_000)
    with registry.reserve("a", 800) as reservation:
        assert (reservation.tokens, reservation.charged_thread, registry.held_tokens("a")) == (800, "a", 800)
        with pytest.raises(BudgetExhaustedError):
            registry.check_budget("a", 201)
        budget, crossed = reservation.commit(600, 150)
        assert [item.threshold_percent for item in crossed] == [75]
        assert budget.total_tokens == 750
        assert registry.held_tokens("a") == 0
        with pytest.raises(ValueError, match="closed"):
            reservation.commit(1, 1)
    assert budget.total_tokens == 750


def test_a_reservation_is_released_when_left() -> None:
    registry = ThreadBudgetRegistry(1_000)
    with registry.reserve("a", 800) as left:
        assert registry.held_tokens("a") == 800
    assert registry.held_tokens("a") == 0
    with pytest.raises(RuntimeError, match="the model"), registry.reserve("a", 800) as failed:
        raise RuntimeError("the model did not answer")
    assert registry.held_tokens("a") == 0
    for reservation in (left, failed):
        with pytest.raises(ValueError, match="closed"):
            reservation.commit(1, 1)
    assert registry.get_budget("a").total_tokens == 0


def test_bad_arguments_leave_a_reservation_as_it_is() -> None:
    registry = ThreadBudgetRegistry(1_000)
    with registry.reserve("a", 800) as reservation:
        with pytest.raises(ValueError, match="prompt_tokens"):
            reservation.commit(-1, 0)
        assert reservation.tokens == 800
        assert reservation.commit(1, 0).budget.total_tokens == 1


def test_a_commit_returns_the_budget_it_was_made_on() -> None:
    registry = ThreadBudgetRegistry(1_000)
    reservation = registry.reserve("a", 100)
    registry.reset_thread("a")
    assert reservation.charged_thread is None
    budget, _ = reservation.commit(60, 0)
    assert (budget.total_tokens, budget.is_detached, registry.has_budget("a")) == (60, True, False)


def test_trees() -> None:
    registry = ThreadBudgetRegistry(1_000)
    team = registry.open_thread("team", max_tokens=1_500)
    one = registry.open_thread("one", parent="team")
    registry.open_thread("two", max_tokens=2_000, parent="team")
    registry.consume("one", 700, 0)
    budget, crossed = registry.consume("two", 500, 0)
    assert [(item.thread_id, item.threshold_percent) for item in crossed] == [("team", 75)]
    assert team.total_tokens == 1_200
    assert not budget.can_consume(301)
    with pytest.raises(BudgetExhaustedError) as refused:
        registry.check_budget("two", 301)
    assert refused.value.thread_id == "team"
    with pytest.raises(UnknownParentError, match="open it first"):
        registry.open_thread("three", parent="nobody")
    with pytest.raises(ParentCycleError):
        registry.open_thread("team", parent="one")
    with pytest.raises(OptionsDifferError):
        registry.open_thread("one", max_tokens=7)
    registry.cleanup_thread("team")
    assert one.is_detached
    assert budget.is_detached
    assert registry.get_all_usage() == {}


def test_a_limit_is_changed() -> None:
    registry = ThreadBudgetRegistry(1_000)
    budget, crossed = registry.consume("a", 800, 0)
    assert [item.threshold_percent for item in crossed] == [75]
    assert registry.set_limit("a", 2_000).remaining == 1_200
    assert (budget.max_tokens, budget.triggered_thresholds) == (2_000, [])
    assert registry.take_warnings("a") == []
    assert [item.threshold_percent for item in registry.consume("a", 700, 0).crossed] == [75]
    registry.set_limit("a", 1_000)
    assert budget.is_exhausted
    registry.reset_thread("a")
    assert registry.get_usage("a") == registry.set_limit("a", 1_000)


def test_a_line_of_threads_has_an_end() -> None:
    registry = ThreadBudgetRegistry()
    registry.open_thread("0", max_tokens=1)
    for depth in range(1, 16):
        registry.open_thread(str(depth), parent=str(depth - 1))
    with pytest.raises(TooDeepError) as refused:
        registry.open_thread("16", parent="15")
    assert refused.value.limit == 16


def test_a_request_counts_once() -> None:
    registry = ThreadBudgetRegistry(100)
    assert registry.consume_once("a", "request", 80, 0)[1:] != ([], False)
    budget, crossed, repeated = registry.consume_once("a", "request", 80, 0)
    assert (budget.total_tokens, crossed, repeated) == (80, [], True)


def test_a_batch_is_all_or_nothing() -> None:
    registry = ThreadBudgetRegistry(100)
    crossed = registry.consume_batch([UsageEntry("a", 50, 0), UsageEntry("b", 1, 1), UsageEntry("a", 30, 0)])
    assert [(item.thread_id, item.threshold_percent) for item in crossed] == [("a", 75)]
    with pytest.raises(ValueError, match="thread id"):
        registry.consume_batch([UsageEntry("a", 1, 0), UsageEntry("", 1, 0)])
    with pytest.raises(TypeError, match="UsageEntry"):
        registry.consume_batch([("a", 1, 0)])  # type: ignore[list-item]
    with pytest.raises(BatchTooLargeError):
        registry.consume_batch([UsageEntry("a", 1, 0)] * 4_097)
    with pytest.raises(BatchTooLargeError):
        registry.consume_batch([UsageEntry("a" * 1_024, 1, 0)] * 129)
    assert registry.get_budget("a").request_count == 2
    assert registry.consume_batch([]) == []


def test_warnings_are_taken_once() -> None:
    registry = ThreadBudgetRegistry(100)
    registry.consume("a", 92, 0)
    warnings = registry.take_warnings("a")
    assert [warning.severity for warning in warnings] == [Severity.WARNING, Severity.CRITICAL]
    assert "Consider wrapping up" in warnings[1].message
    assert registry.take_warnings("a") == registry.take_warnings("nobody") == []


def test_thresholds() -> None:
    registry = ThreadBudgetRegistry(100)
    assert [(item.percent, str(item.severity)) for item in registry.thresholds] == [
        (75, "warning"),
        (90, "critical"),
        (95, "final"),
    ]
    registry.set_thresholds([Threshold(50, Severity.FINAL), Threshold(10, Severity.WARNING)])
    assert [item.threshold_percent for item in registry.consume("a", 50, 0).crossed] == [10, 50]
    for percents in ([0], [101], [7, 7]):
        with pytest.raises(InvalidThresholdError) as refused:
            registry.set_thresholds([Threshold(percent, Severity.FINAL) for percent in percents])
        assert refused.value.percent == percents[-1]
    with pytest.raises(ValueError, match="at most 100"):
        registry.set_thresholds([Threshold(1, Severity.FINAL)] * 101)
    assert len(registry.thresholds) == 2
    own = [Threshold(40, Severity.CRITICAL)]
    budget = registry.get_budget("a")
    assert [item.severity for item in budget.check_thresholds(own)] == ["critical"]
    assert budget.check_thresholds(own) == []


def test_a_snapshot_is_restored() -> None:
    registry = ThreadBudgetRegistry(100)
    registry.open_thread("team", max_tokens=1_000)
    registry.open_thread("one", parent="team")
    registry.consume_once("one", "request", 92, 3)
    registry.take_warnings("one")
    for number in range(300):
        registry.consume(f"thread-{number}", number, 0)
    pages = []
    page = registry.snapshot()
    while page:
        pages.append(json.dumps([asdict(state) for state in page]))
        page = registry.snapshot(after=page[-1].thread_id)
    assert len(pages) == 2

    other = ThreadBudgetRegistry()
    for text in pages:
        other.restore([ThreadState.from_dict(state) for state in json.loads(text)])
    assert other.get_all_usage() == registry.get_all_usage()
    assert other.snapshot(limit=1_000) == registry.snapshot(limit=1_000)
    assert other.consume_once("one", "request", 92, 3).repeated
    with pytest.raises(InvalidStateError):
        other.restore(registry.snapshot(limit=1))
    with pytest.raises(InvalidStateError, match="in parts"):
        other.restore(registry.snapshot(limit=1) * 2_000)


def test_the_number_of_threads_can_be_limited() -> None:
    registry = ThreadBudgetRegistry()
    registry.set_max_threads(1)
    registry.get_budget("a")
    with pytest.raises(TooManyThreadsError) as refused:
        registry.get_budget("b")
    assert refused.value.limit == 1
    registry.consume("a", 1, 1)


def test_memory_can_be_limited() -> None:
    registry = ThreadBudgetRegistry(100, memory_limit=1 << 20)

    def fill() -> None:
        for number in range(100_000):
            registry.consume(f"thread-{number}", 1, 0)

    with pytest.raises(RegistryMemoryError, match="memory_limit"):
        fill()
    assert registry.consume("thread-0", 1, 0).budget.total_tokens == 2
    registry.clear()
    registry.consume("again", 1, 0)


def test_errors_survive_pickling() -> None:
    registry = ThreadBudgetRegistry(10)
    with pytest.raises(BudgetExhaustedError) as refused:
        registry.check_budget("a", 11)
    copy = pickle.loads(pickle.dumps(refused.value))
    assert str(copy) == str(refused.value) == "thread a: 0 of 10 tokens are used, a request of 11 does not fit"
    assert (copy.used, copy.max_tokens, copy.requested) == (0, 10, 11)
    assert str(pickle.loads(pickle.dumps(RegistryMemoryError()))) == str(RegistryMemoryError())
