"""What is done with is freed, threads take turns, and a trap is the end."""

import gc
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thread_budget import (
    LoadError,
    RegistryLostError,
    RegistryMemoryError,
    ThreadBudget,
    ThreadBudgetRegistry,
)
from thread_budget._instance import Calls


def test_handles_and_results_take_no_memory_for_long() -> None:
    # Handles live in the component's memory: were they not freed, this registry would run out of it.
    registry = ThreadBudgetRegistry(memory_limit=1 << 20)
    for _ in range(2):
        # So do results in this process's; its peak stands still once the first round was made.
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(20_000):
            registry.consume("a", 1, 1).budget.percent_used  # noqa: B018
            registry.get_budget("a")
            with registry.hold("b", 1, 1) as hold:
                hold.settle(0, 0)
            registry.snapshot()
            ThreadBudget(1_000)
            if number % 100 == 0:
                ThreadBudgetRegistry()
                with pytest.raises(ValueError, match="expected"):
                    registry.consume("a", -1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 << 10


def test_budgets_that_nobody_has_are_let_go() -> None:
    registry = ThreadBudgetRegistry()
    held = [registry.consume(f"held-{number}").budget for number in range(100)]
    for number in range(10_000):
        registry.consume(f"thread-{number}")
    assert len(registry._budgets) < 3_000
    assert all(registry.get_budget(budget.thread_id) is budget for budget in held)


def test_forgetting_a_thread_asks_nothing_of_other_budgets() -> None:
    class Counted:
        """Calls, and how many were made."""

        def __init__(self, calls: Calls) -> None:
            self.calls, self.instance, self.made = calls, calls.instance, 0

        def __getattr__(self, name: str) -> Any:
            self.made += 1
            return getattr(self.calls, name)

    registry = ThreadBudgetRegistry(1_000)
    registry._calls = calls = Counted(registry._calls)
    held = [registry.consume(f"held-{number}", 1).budget for number in range(1_000)]

    def made_by(forget: Callable[[], Any]) -> int:
        before = calls.made
        forget()
        return calls.made - before

    assert made_by(lambda: registry.reset_thread("unknown")) == 1
    assert made_by(lambda: registry.cleanup_thread("unknown")) == 1
    # It is kept, forgotten, and asked whether it is.
    assert made_by(lambda: registry.reset_thread("held-1")) == 3
    assert made_by(lambda: registry.cleanup_thread("held-2")) == 3
    assert [budget.is_detached for budget in held[:4]] == [False, True, True, False]
    # A thread below it is forgotten too, and which those are only the registry knows.
    below = registry.open_thread("below", parent="held-0")
    registry.cleanup_thread("held-0")
    assert (below.is_detached, held[0].is_detached, held[3].is_detached) == (True, True, False)


def test_forgetting_when_memory_is_used_up() -> None:
    registry = ThreadBudgetRegistry(100, memory_limit=1 << 20)
    held: list[ThreadBudget] = []

    def fill() -> None:
        for number in range(100_000):
            held.append(registry.consume(f"thread-{number}", 60, 0).budget)

    with pytest.raises(RegistryMemoryError):
        fill()
    # There is no memory to keep all of these; those that go wrong say so, and forgetting goes on.
    first, last = held[0], held[-1]
    final = registry.cleanup_thread(last.thread_id)
    assert final is not None
    assert (final.total_tokens, registry.has_budget(last.thread_id)) == (60, False)
    registry.clear()
    for budget in (first, last):
        try:
            assert (budget.total_tokens, budget.is_detached) == (60, True)
        except RegistryMemoryError:
            registry.get_budget(budget.thread_id)
            with pytest.raises(RegistryMemoryError):
                budget.usage  # noqa: B018
    registry.consume("again", 1, 0)


def test_threads_take_turns() -> None:
    registry = ThreadBudgetRegistry(1 << 40)
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(500):
                registry.consume("shared", 1, 2)
                registry.consume(name, 1, 0)
                assert registry.get_budget(name).max_tokens == 1 << 40
                registry.hold("shared", 5, 0)  # forgotten at once
                with registry.hold("shared", 5, 5) as hold:
                    hold.settle(1, 1)
                registry.get_budget("shared").consume(1)
                registry.get_all_usage()
                registry.reset_thread(f"{name} of its own")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert registry.get_budget("shared").total_tokens == 8 * 500 * 6
    assert registry.held_tokens("shared") == 0
    assert len(registry.thresholds) == 3


def test_a_call_within_a_call() -> None:
    # A finaliser may run anywhere, in the middle of a call of its own thread among other places.
    registry = ThreadBudgetRegistry()

    class Agent:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            registry.cleanup_thread("agent")
            registry.consume("finalised", 1, 0)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(200):
            Agent()
            registry.consume("agent", 1, 1)
            registry.get_budget("agent").consume(1)
            registry.get_all_usage()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert registry.get_budget("finalised").total_tokens == 200


def test_a_trap_is_the_end() -> None:
    registry = ThreadBudgetRegistry(memory_limit=1 << 20)
    budget, _ = registry.consume("a", 1, 1)
    hold = registry.hold("a", 1, 1)
    state = registry.snapshot()[0]
    state.request_ids = [f"{number:0256}" for number in range(64)]
    with pytest.raises(RegistryLostError, match="the registry is lost; make a new one") as lost:
        registry._calls.restore([state] * 120)  # more than the memory left, past the check of the public method
    uses = (
        lambda: registry.has_budget("a"),
        lambda: budget.usage,
        lambda: budget.consume(1),
        lambda: hold.settle(1, 1),
        registry.clear,
    )
    for use in uses:
        with pytest.raises(RegistryLostError) as later:
            use()
        assert later.value.reason == lost.value.reason
    assert ThreadBudgetRegistry().consume("a", 1, 1).budget.total_tokens == 2


def test_what_is_not_the_component(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"cannot read the component .*missing\.wasm: No such file"):
        ThreadBudgetRegistry(component=tmp_path / "missing.wasm")
    other = tmp_path / "other.wasm"
    other.write_bytes(b"\0asm\x0d\0\x01\0")
    with pytest.raises(LoadError, match="not a component of the world"):
        ThreadBudgetRegistry(component=other)
    other.write_text("no component")
    with pytest.raises(LoadError, match="is not a component that can be used here"):
        ThreadBudgetRegistry(component=other)
