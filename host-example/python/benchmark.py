"""What a call takes through wasmtime's own conversion, and through this package: ``python benchmark.py``."""

from collections.abc import Callable

from wasmtime import Engine, Store
from wasmtime.component import Component, Linker

from thread_budget import ThreadBudgetRegistry, UsageEntry
from thread_budget._instance import built_in_component
from thread_budget.vectors import rounds_of

THREAD = "agent-7"
BATCH = [UsageEntry(THREAD, 1, 0)] * 100


def conversion() -> dict[str, Callable[[], object]]:
    """The calls as wasmtime's Python API makes them, each function looked up once."""
    engine = Engine()
    store = Store(engine)
    instance = Linker(engine).instantiate(store, Component.from_file(engine, built_in_component()))
    registry = instance.get_export_index(store, "thread-budget:registry/registry@0.1.0")

    def call(name: str, *arguments: object) -> Callable[[], object]:
        index = instance.get_export_index(store, name, registry)
        assert index is not None
        function = instance.get_func(store, index)
        assert function is not None
        return lambda: function(store, *arguments)

    call("configure", 1 << 60)()
    return calls_of(
        call("has-budget", THREAD),
        call("check-budget", THREAD, 1),
        call("consume", THREAD, 1, 0),
        call("get-usage", THREAD),
        # wasmtime looks for the fields of a record by the names of the contract.
        call("consume-batch", [record(entry) for entry in BATCH]),
    )


def record(entry: UsageEntry) -> object:
    """The entry as wasmtime's conversion wants it."""
    fields = {"thread-id": entry.thread_id, "prompt-tokens": entry.prompt_tokens}
    return type("Record", (), {**fields, "completion-tokens": entry.completion_tokens})()


def package() -> dict[str, Callable[[], object]]:
    """The calls as a user of this package makes them."""
    registry = ThreadBudgetRegistry(1 << 60)
    return calls_of(
        lambda: registry.has_budget(THREAD),
        lambda: registry.check_budget(THREAD, 1),
        lambda: registry.consume(THREAD, 1, 0),
        lambda: registry.get_usage(THREAD),
        lambda: registry.consume_batch(BATCH),
    )


def calls_of(*calls: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """The calls by their names."""
    return dict(zip(("has-budget", "check-budget", "consume", "get-usage", "consume-batch of 100"), calls))


def main() -> None:
    """Print a table, in microseconds: the fastest of many short rounds, since other work on the machine only adds."""
    print(f"{'microseconds a call':<22}{'wasmtime':>10}{'package':>10}")
    mine = package()
    for name, call in conversion().items():
        calls = 5 if "batch" in name else 50
        before, after = (min(rounds_of(each, rounds=200, calls=calls)) / 1_000 for each in (call, mine[name]))
        print(f"{name:<22}{before:10.1f}{after:10.1f}")


if __name__ == "__main__":
    main()
