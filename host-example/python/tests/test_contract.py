"""What the contract has beyond the class that this package replaces."""

import itertools
import json
import pickle
from dataclasses import asdict

import pytest

from thread_budget import (
    Acknowledgement,
    BatchTooLargeError,
    BudgetExhaustedError,
    ForkedError,
    InvalidStateError,
    InvalidThresholdError,
    OptionsDifferError,
    ParentCycleError,
    RegistryLostError,
    RegistryMemoryError,
    Severity,
    ThreadBudgetRegistry,
    Threshold,
    TooDeepError,
    TooManyThreadsError,
    UnknownHoldError,
    UnknownParentError,
    UsageEntry,
)


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
    assert registry.set_limit("a", 2_000)["remaining"] == 1_200
    assert (budget.max_tokens, budget.triggered_thresholds) == (2_000, set())
    assert registry.pending_warnings("a") == []
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


def test_where_a_thread_stands() -> None:
    registry = ThreadBudgetRegistry(1_000)
    registry.open_thread("team", max_tokens=1_500)
    registry.open_thread("one", parent="team")
    registry.consume("team", 600)
    consumption = registry.consume("one", 760)
    budget, crossed = consumption
    assert (consumption.budget, consumption.crossed) == (budget, crossed)
    assert (consumption.usage, consumption.room, consumption.severity) == (budget.usage, 140, Severity.WARNING)
    assert [(each.thread_id, each.threshold_percent, each.runway) for each in crossed] == [
        ("one", 75, 0),
        ("team", 75, 0),
        ("team", 90, 0),
    ]


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
    registry.consume_batch([{"thread_id": "c", "prompt_tokens": 1, "completion_tokens": 2}])  # type: ignore[list-item]
    assert registry.get_budget("c").total_tokens == 3


def test_warnings_are_pending_until_the_agent_has_them() -> None:
    registry = ThreadBudgetRegistry(100)
    _, crossed = registry.consume("a", 92)
    warnings = registry.pending_warnings("a")
    assert [warning.severity for warning in warnings] == [Severity.WARNING, Severity.CRITICAL]
    assert "Consider wrapping up" in warnings[1].message
    assert [registry.budget_warning(each) for each in crossed] == warnings == registry.pending_warnings("a")
    registry.acknowledge_warnings("a", warnings[:1])
    assert registry.pending_warnings("a") == warnings[1:]
    registry.acknowledge_warnings("a", [Acknowledgement(90, 7)])
    assert registry.pending_warnings("a") == warnings[1:]
    registry.acknowledge_warnings("a", crossed)
    assert registry.pending_warnings("a") == registry.pending_warnings("nobody") == []


def test_the_runway() -> None:
    registry = ThreadBudgetRegistry(1_000)
    registry.consume("a", 100)
    _, [crossed] = registry.consume("a", 660)
    assert crossed.runway == 1
    assert [warning.runway for warning in registry.pending_warnings("a")] == [1]
    assert registry.snapshot()[0].average_tokens == 240


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
    budget = registry.get_budget("a")
    assert [item.severity for item in budget.check_thresholds({40: "critical"})] == ["critical"]
    assert budget.check_thresholds({40: "critical", 101: "never"}) == []
    with pytest.raises(ValueError, match="at most 100"):
        budget.check_thresholds(dict.fromkeys(range(200), "many"))


def test_a_snapshot_is_restored() -> None:
    registry = ThreadBudgetRegistry(100)
    registry.open_thread("team", max_tokens=1_000)
    registry.open_thread("one", parent="team")
    registry.settle("one", "request", 92, 3, remember=True)
    registry.acknowledge_warnings("one", registry.pending_warnings("one")[:2])
    hold = registry.hold("team", 5, 6, holder=1, deadline=2)
    with registry.hold("team", 7, 8, request_id="lost") as lost:
        lost.sent()
    for number in range(300):
        registry.consume(f"thread-{number}", number)
    pages = []
    page = registry.snapshot()
    while page:
        pages.append(json.dumps([asdict(state) for state in page]))
        page = registry.snapshot(after=page[-1].thread_id)
    assert len(pages) == 2

    other = ThreadBudgetRegistry()
    for text in pages:
        other.restore(json.loads(text))
    assert other.get_all_usage() == registry.get_all_usage()
    assert other.snapshot(limit=1_000) == registry.snapshot(limit=1_000)
    assert other.settle("one", "request", 92, 3, remember=True).repeated
    assert other.settle("team", hold.request_id, 5, 0).usage["total_tokens"] == 95 + 7 + 5
    with pytest.raises(InvalidStateError):
        other.restore(registry.snapshot(limit=1))
    with pytest.raises(InvalidStateError, match="in parts"):
        other.restore(registry.snapshot(limit=1) * 2_000)


def test_the_largest_state_is_restored() -> None:
    registry = ThreadBudgetRegistry()
    registry.open_thread("p" * 1_024, max_tokens=1)
    for number in range(64):
        registry.settle("t", f"{number:0256}", 1, 1, remember=True)
    holds = [registry.hold("t", 1, 1, request_id=f"held {number:0251}") for number in range(256)]
    [state] = [state for state in registry.snapshot() if state.thread_id == "t"]
    other = ThreadBudgetRegistry()
    other.restore([state])
    assert other.held_tokens("t") == 2 * len(holds)


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
    assert str(copy) == str(refused.value) == "Thread a... budget exhausted: 0/10 tokens used"
    assert vars(copy) == {"thread_id": "a", "used": 0, "max_tokens": 10, "held": 0, "requested": 11}
    for error in (RegistryMemoryError(), UnknownHoldError(), TooDeepError(16), ForkedError(), RegistryLostError("why")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_reset_asks_about_no_other_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ThreadBudgetRegistry()
    budgets = [registry.get_budget(f"t{number}") for number in range(500)]
    asked = itertools.count()
    is_detached = registry._calls.thread_budget_is_detached
    monkeypatch.setattr(registry._calls, "thread_budget_is_detached", lambda it: next(asked) < 0 or is_detached(it))
    for budget in budgets[:100]:
        registry.reset_thread(budget.thread_id)
    assert next(asked) == 100
    assert all(budget.is_detached for budget in budgets[:100])
    assert not any(budget.is_detached for budget in budgets[100:])
