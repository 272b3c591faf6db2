"""What a call takes, in one run: ``python benchmark.py``.

Beside each other: a plain Python class, this package, and wasmtime's own conversion. The last column is what of the
package's time is spent inside wasmtime and the component, with nothing of Python's but the call itself.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wasmtime import Engine, Store
from wasmtime.component import Component, Linker

from thread_budget import ThreadBudgetRegistry, UsageEntry
from thread_budget._codec import func_call, val_delete
from thread_budget._instance import BUILT_IN
from thread_budget.vectors import rounds_of

THREAD = "agent-7"
BATCH = [UsageEntry(THREAD, 1, 0)] * 100

Calls = dict[str, Callable[[], object]]


@dataclass
class PlainBudget:
    """A thread's budget as a Python program would have it."""

    max_tokens: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    request_count: int = 0
    crossed: set[int] = field(default_factory=set)

    @property
    def total_tokens(self) -> int:
        """All tokens."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def percent_used(self) -> float:
        """Of the limit."""
        return self.total_tokens / self.max_tokens * 100 if self.max_tokens else 0.0


class Plain:
    """A registry as a Python program would have it: a dictionary and a lock."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.budgets: dict[str, PlainBudget] = {}
        self.lock = threading.Lock()

    def budget(self, thread_id: str) -> PlainBudget:
        """The thread's, made at its first use."""
        with self.lock:
            if thread_id not in self.budgets:
                self.budgets[thread_id] = PlainBudget(self.max_tokens)
            return self.budgets[thread_id]

    def check(self, thread_id: str, estimate: int) -> bool:
        """Refuse, or not."""
        budget = self.budget(thread_id)
        if budget.total_tokens >= budget.max_tokens or budget.total_tokens + estimate > budget.max_tokens:
            raise ValueError(f"{thread_id} has no room")
        return True

    def consume(self, thread_id: str, prompt: int, completion: int) -> tuple[PlainBudget, list[int]]:
        """Count, and look at the thresholds."""
        budget = self.budget(thread_id)
        with self.lock:
            budget.prompt_tokens += prompt
            budget.completion_tokens += completion
            budget.request_count += 1
            percent = budget.percent_used
            crossed = [each for each in (75, 90, 95) if percent >= each and each not in budget.crossed]
            budget.crossed.update(crossed)
        return budget, crossed

    def usage(self, thread_id: str) -> dict[str, int]:
        """As a dictionary."""
        with self.lock:
            budget = self.budgets[thread_id]
            counts = {"prompt_tokens": budget.prompt_tokens, "completion_tokens": budget.completion_tokens}
            return {**counts, "total_tokens": budget.total_tokens, "request_count": budget.request_count}


def plain() -> Calls:
    """The plain class."""
    registry = Plain(1 << 60)
    registry.budget(THREAD)
    return {
        "has_budget": lambda: THREAD in registry.budgets,
        "check_budget": lambda: registry.check(THREAD, 1),
        "consume": lambda: registry.consume(THREAD, 1, 0),
        "get_usage": lambda: registry.usage(THREAD),
        "consume_batch of 100": lambda: [registry.consume(THREAD, 1, 0) for _ in BATCH],
    }


def package(registry: ThreadBudgetRegistry) -> Calls:
    """The calls as a user of this package makes them."""

    def hold_and_settle() -> None:
        with registry.hold(THREAD, 1, 1) as hold:
            hold.sent()
            hold.settle(1, 0)

    return {
        "has_budget": lambda: registry.has_budget(THREAD),
        "check_budget": lambda: registry.check_budget(THREAD, 1),
        "consume": lambda: registry.consume(THREAD, 1, 0),
        "get_usage": lambda: registry.get_usage(THREAD),
        "hold and settle": hold_and_settle,
        "consume_batch of 100": lambda: registry.consume_batch(BATCH),
    }


def conversion() -> Calls:
    """The calls as wasmtime's Python API makes them, each function looked up once."""
    engine = Engine()
    store = Store(engine)
    instance = Linker(engine).instantiate(store, Component.from_file(engine, BUILT_IN))
    registry = instance.get_export_index(store, "thread-budget:registry/registry@0.2.0")

    def call(name: str, *arguments: object) -> Callable[[], object]:
        index = instance.get_export_index(store, name, registry)
        assert index is not None
        function = instance.get_func(store, index)
        assert function is not None
        return lambda: function(store, *arguments)

    call("configure", 1 << 60)()
    return {
        "has_budget": call("has-budget", THREAD),
        "check_budget": call("check-budget", THREAD, 1),
        "consume": call("consume", THREAD, 1, 0),
        "get_usage": call("get-usage", THREAD),
        # wasmtime looks for the fields of a record by the names of the contract.
        "consume_batch of 100": call("consume-batch", [record(entry) for entry in BATCH]),
    }


def record(entry: UsageEntry) -> object:
    """The entry as wasmtime's conversion wants it."""
    fields = {"thread-id": entry.thread_id, "prompt-tokens": entry.prompt_tokens}
    return type("Record", (), {**fields, "completion-tokens": entry.completion_tokens})()


def inside(registry: ThreadBudgetRegistry) -> Calls:
    """The C calls alone, with arguments that are made once; what they return is freed and not read."""

    def call(name: str, *arguments: Any) -> Callable[[], object]:
        function = getattr(registry._calls, name)
        names = function.__globals__
        text = THREAD.encode()
        packed = names["pack"](12, len(text), id(text) + bytes.__basicsize__ - 1, *arguments)
        address, context, space = names["address"], names["context"], names["Space"]
        count, one = ctypes.c_size_t(1 + len(arguments) // 2), ctypes.c_size_t(1)

        def once(_alive: bytes = text) -> None:
            result = space()
            func_call(address, context, packed, count, result, one)
            val_delete(result)

        return once

    u64 = 8
    return {
        "has_budget": call("has_budget"),
        "check_budget": call("check_budget", u64, 1),
        "consume": call("consume", u64, 1, u64, 0),
        "get_usage": call("get_usage"),
    }


def main() -> None:
    """Print a table, in microseconds: the fastest of many short rounds, since other work on the machine only adds."""
    registry = ThreadBudgetRegistry(1 << 60)
    registry.get_budget(THREAD)
    columns = {"plain": plain(), "package": package(registry), "wasmtime": conversion(), "inside": inside(registry)}
    print(f"{'microseconds a call':<22}" + "".join(f"{name:>10}" for name in columns))
    for name in columns["package"]:
        rounds, calls = (50, 5) if "batch" in name else (300, 100)
        times = [
            f"{min(rounds_of(column[name], rounds, calls)) / 1_000:10.2f}" if name in column else f"{'':10}"
            for column in columns.values()
        ]
        print(f"{name:<22}" + "".join(times))


if __name__ == "__main__":
    main()
