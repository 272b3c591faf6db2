"""Handles are freed, threads take turns, and a trap is the end."""

import gc
import resource
import threading
from pathlib import Path

import pytest

from thread_budget import (
    LoadError,
    RegistryLostError,
    ThreadBudgetRegistry,
    ThreadState,
)


def test_a_forgotten_reservation_is_released() -> None:
    registry = ThreadBudgetRegistry(1_000)
    reservation = registry.reserve("a", 400)
    assert registry.held_tokens("a") == 400
    del reservation
    gc.collect()
    assert registry.held_tokens("a") == 0


def test_a_closed_budget() -> None:
    registry = ThreadBudgetRegistry(1_000)
    other = registry.get_budget("a")
    with registry.get_budget("a") as budget:
        budget.consume(1, 2)
    for use in (lambda: budget.total_tokens, lambda: budget.percent_used, lambda: budget.consume(1, 1)):
        with pytest.raises(ValueError, match="closed"):
            use()
    budget.close()
    consumed, _ = registry.consume("a", 1, 1)
    consumed.close()
    with pytest.raises(ValueError, match="closed"):
        consumed.usage  # noqa: B018
    registry.clear()
    assert other.total_tokens == 5


def test_closing_frees_what_is_still_referred_to() -> None:
    registry = ThreadBudgetRegistry(memory_limit=1 << 20)
    budgets = []
    for _ in range(50_000):
        with registry.get_budget("a") as budget:
            budgets.append(budget)
    assert registry.consume("a", 1, 1).budget.total_tokens == 2


def test_handles_and_results_take_no_memory_for_long() -> None:
    # Handles live in the component's memory: were they not freed, this registry would run out of it.
    registry = ThreadBudgetRegistry(memory_limit=1 << 20)
    for _ in range(2):
        # So do results in this process's; its peak stands still once the first round was made.
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(20_000):
            registry.consume("a", 1, 1).budget.percent_used  # noqa: B018
            registry.get_budget("a")
            with registry.reserve("b", 1) as reservation:
                reservation.commit(0, 0)
            registry.snapshot()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 << 10


def test_threads_take_turns() -> None:
    registry = ThreadBudgetRegistry(1 << 40)
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(500):
                registry.consume("shared", 1, 2)
                registry.consume(name, 1, 0)
                assert registry.get_budget(name).max_tokens == 1 << 40
                registry.reserve("shared", 5)  # forgotten at once
                with registry.reserve("shared", 5) as reservation:
                    reservation.commit(1, 1)
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
    assert registry.get_budget("shared").usage.total_tokens == 8 * 500 * 5
    assert registry.held_tokens("shared") == 0


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
            registry.get_all_usage()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert registry.get_budget("finalised").total_tokens == 200


def test_a_trap_is_the_end() -> None:
    registry = ThreadBudgetRegistry(memory_limit=1 << 20)
    budget, _ = registry.consume("a", 1, 1)
    reservation = registry.reserve("a", 1)
    ids = [f"{number:0256}" for number in range(64)]
    states = [ThreadState(f"{number}", None, False, 100, 0, 0, 64, [], [], ids) for number in range(120)]
    with pytest.raises(RegistryLostError, match="the registry is lost; make a new one") as lost:
        registry._instance.call("restore", states)  # more than the memory left, past the check of the public method
    uses = (lambda: registry.has_budget("a"), lambda: budget.usage, lambda: budget.percent_used, registry.clear)
    for use in uses:
        with pytest.raises(RegistryLostError) as later:
            use()
        assert later.value.reason == lost.value.reason
    reservation.release()
    budget.close()
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
