"""Holds: what becomes of a request that was sent, not sent, or lost."""

import gc
import re

import pytest

from thread_budget import (
    BudgetExhaustedError,
    Hold,
    InvalidRequestIdError,
    LostCalls,
    RegistryMemoryError,
    ThreadBudgetRegistry,
    TooManyHoldsError,
    UnknownHoldError,
)


@pytest.fixture
def registry() -> ThreadBudgetRegistry:
    return ThreadBudgetRegistry(1_000)


def total(registry: ThreadBudgetRegistry, thread_id: str) -> int:
    usage = registry.get_usage(thread_id)
    return 0 if usage is None else usage["total_tokens"]


def test_a_hold_is_settled(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 300, 500) as hold:
        assert (hold.completion_tokens, hold.held.room, registry.held_tokens("a")) == (500, 200, 800)
        with pytest.raises(BudgetExhaustedError) as refused:
            registry.check_budget("a", 201)
        assert (refused.value.used, refused.value.held, refused.value.requested) == (0, 800, 201)
        hold.sent()
        consumed = hold.settle(600, 150)
        assert [item.threshold_percent for item in consumed.crossed] == [75]
        assert (consumed.usage["total_tokens"], consumed.room, consumed.severity) == (750, 250, "warning")
    assert (total(registry, "a"), registry.held_tokens("a")) == (750, 0)


def test_a_hold_that_was_not_sent_is_released(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 300, 500):
        assert registry.held_tokens("a") == 800
    assert registry.held_tokens("a") == 0
    with pytest.raises(RuntimeError, match="no route"), registry.hold("a", 300, 500):
        raise RuntimeError("no route")
    assert registry.held_tokens("a") == total(registry, "a") == 0


@pytest.mark.parametrize(("lost_calls", "charged"), [("prompt", 100 + 30), ("all", 100 + 50), ("nothing", 0)])
def test_a_hold_that_was_sent_is_settled_as_lost(lost_calls: LostCalls, charged: int) -> None:
    registry = ThreadBudgetRegistry(1_000, lost_calls=lost_calls)

    def request() -> None:
        with registry.hold("a", 100, 30) as hold:
            hold.sent()
            assert hold.grow(50).completion_tokens == 50
            raise TimeoutError

    with pytest.raises(TimeoutError):
        request()
    assert (total(registry, "a"), registry.held_tokens("a")) == (charged, 0)


def test_of_one_slice_a_lost_call_costs_the_prompt(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 100, 30) as hold:
        hold.sent()
    assert total(registry, "a") == 100


def test_slices_that_were_given_back_are_not_lost(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 100, 30) as hold:
        hold.sent()
        hold.grow(50)
        hold.grow(20)
    assert total(registry, "a") == 120


def test_a_late_answer_adds_what_is_more(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 100, 500) as hold:
        hold.sent()
    assert total(registry, "a") == 100
    assert hold.settle(120, 40).usage["total_tokens"] == 160
    with pytest.raises(UnknownHoldError, match="settled or released before"):
        hold.settle(120, 40)


def test_forgetting_a_hold_is_leaving_it(registry: ThreadBudgetRegistry) -> None:
    hold: Hold | None = registry.hold("a", 100, 100)
    assert registry.held_tokens("a") == 200
    hold = None
    gc.collect()
    assert (registry.held_tokens("a"), total(registry, "a")) == (0, 0)
    hold = registry.hold("a", 100, 100)
    hold.sent()
    del hold
    gc.collect()
    assert (registry.held_tokens("a"), total(registry, "a")) == (0, 100)


def test_releasing(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 1, 1) as hold:
        hold.sent()
        assert hold.release()
        assert not hold.release()
    assert total(registry, "a") == 0


def test_a_completion_is_cut_down(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 900, 4_000, least_completion_tokens=50) as hold:
        assert hold.completion_tokens == 100
        with pytest.raises(BudgetExhaustedError) as refused:
            hold.grow(101)
        assert refused.value.held == 0
        assert registry.held_tokens("a") == 1_000
    with pytest.raises(BudgetExhaustedError):
        registry.hold("b", 900, 4_000)
    assert not registry.has_budget("b")


def test_bad_counts_leave_a_hold_as_it_is(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 300, 500) as hold:
        with pytest.raises(ValueError, match="prompt_tokens"):
            hold.settle(-1, 0)
        with pytest.raises(TypeError, match="completion_tokens"):
            hold.grow(1.5)  # type: ignore[arg-type]
        assert registry.held_tokens("a") == 800
        hold.settle(1, 0)
    assert total(registry, "a") == 1


def test_request_ids(registry: ThreadBudgetRegistry) -> None:
    with registry.hold("a", 1, 1) as one, registry.hold("a", 1, 1) as other:
        assert one.request_id != other.request_id
        assert re.fullmatch("[0-9a-f-]{36}", one.request_id)
    with registry.hold("a", 10, 10, request_id="r", holder=7, deadline=8) as hold:
        [state] = registry.snapshot()
        assert (state.holds[0].request_id, state.holds[0].holder, state.holds[0].deadline) == ("r", 7, 8)
        hold.settle(10, 5)
    assert hold.settle(10, 5).repeated
    with registry.hold("a", 10, 10, request_id="r") as again:
        assert again.repeated
        again.sent()
    assert (total(registry, "a"), registry.held_tokens("a")) == (15, 0)
    with pytest.raises(InvalidRequestIdError):
        registry.hold("a", 1, 1, request_id="")


def test_holds_without_a_guard(registry: ThreadBudgetRegistry) -> None:
    hold = registry.hold("a", 10, 10)
    assert registry.settle("a", hold.request_id, 5, 5).usage["total_tokens"] == 10
    hold = registry.hold("a", 10, 10)
    assert registry.settle_lost("a", hold.request_id, 10, 0).usage["total_tokens"] == 20
    assert not registry.release("a", hold.request_id)
    assert registry.settle("a", "reported", 1, 1, remember=True).repeated is False
    assert registry.settle("a", "reported", 1, 1, remember=True).repeated is True
    assert total(registry, "a") == 22


def test_a_hold_outlives_its_thread(registry: ThreadBudgetRegistry) -> None:
    registry.open_thread("team", max_tokens=5_000)
    registry.open_thread("one", parent="team")
    with registry.hold("one", 100, 100) as hold:
        hold.sent()
        registry.cleanup_thread("one")
        assert registry.held_tokens("team") == 200
        assert hold.settle(90, 10).usage["max_tokens"] == 5_000
    assert (total(registry, "team"), registry.has_budget("one")) == (100, False)
    with registry.hold("alone", 100, 100) as hold:
        hold.sent()
        registry.cleanup_thread("alone")
    assert not registry.has_budget("alone")


def test_there_is_an_end_to_holds(registry: ThreadBudgetRegistry) -> None:
    holds = [registry.hold("a", 0, 0) for _ in range(256)]
    with pytest.raises(TooManyHoldsError) as refused:
        registry.hold("a", 0, 0)
    assert refused.value.limit == 256
    holds.pop()
    gc.collect()
    registry.hold("a", 0, 0)


def test_a_rule_for_lost_calls_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="lost_calls: expected one of prompt, all, nothing, not 'half'"):
        ThreadBudgetRegistry(lost_calls="half")  # type: ignore[arg-type]


def test_a_hold_that_finds_no_memory() -> None:
    registry = ThreadBudgetRegistry(memory_limit=1 << 20)
    holds: list[Hold] = []

    def fill() -> None:
        for number in range(100_000):
            holds.append(registry.hold(f"thread-{number}", 1, 1))

    with pytest.raises(RegistryMemoryError):
        fill()
    assert registry.held_tokens("thread-0") == 2
    holds.clear()
    assert registry.held_tokens("thread-0") == 0
