"""Put the conformance vectors to a component: ``python -m thread_budget.vectors COMPONENT VECTORS``.

One JSON object goes to stdout: how many vectors of each group passed, what failed, and what a call takes. The exit code
is 0 when all passed, 1 when one failed, 2 when it could not run.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import errors, records
from .handles import Reservation, ThreadBudget
from .registry import ThreadBudgetRegistry

#: The largest count that the vectors write as a number; a larger one is a decimal string.
LARGEST_PORTABLE = 1 << 53

Fields = dict[str, Any]


class Subject:
    """A fresh registry, and the handles that a vector's steps made on it."""

    def __init__(self, component: Path) -> None:
        self.registry = ThreadBudgetRegistry(component=component)
        self.handles: dict[str, Any] = {}

    def put(self, step: Fields) -> tuple[str, Any]:
        """Make a step's call; how it ended, in the words of the vectors."""
        call = CALLS.get(step["call"])
        if call is None:
            return "unknown call", step["call"]
        arguments = {key: numbers(value) for key, value in step.items() if key not in ("call", "returns", "fails")}
        try:
            return "returns", portable(call(self, arguments))
        except errors.ThreadBudgetError as error:
            return "fails", failure(error)

    def budget(self, arguments: Fields) -> ThreadBudget:
        """The budget that a step is on."""
        budget: ThreadBudget = self.handles[arguments["on"]]
        return budget

    def reservation(self, arguments: Fields) -> Reservation:
        """The reservation that a step is on."""
        reservation: Reservation = self.handles[arguments["on"]]
        return reservation

    def keep(self, arguments: Fields, make: Callable[..., object]) -> None:
        """Make a handle with the step's arguments and give it the step's name."""
        name = arguments.pop("as")
        self.handles[name] = make(**arguments)

    def consume(self, arguments: Fields) -> Fields:
        """The contract's `consumed`, put together from what `consume` and `commit` return."""
        budget, crossed = self.registry.consume(**arguments)
        return {"usage": budget.usage, "crossed": crossed, "repeated": False}

    def consume_once(self, arguments: Fields) -> Fields:
        """As `consume`, with what `consume_once` says about a repetition."""
        consumed = self.registry.consume_once(**arguments)
        return {"usage": consumed.budget.usage, "crossed": consumed.crossed, "repeated": consumed.repeated}

    def consume_on_handle(self, arguments: Fields) -> Fields:
        """As `consume`, on a budget."""
        budget = self.handles[arguments.pop("on")]
        crossed = budget.consume(**arguments)
        return {"usage": budget.usage, "crossed": crossed, "repeated": False}

    def commit(self, arguments: Fields) -> Fields:
        """As `consume`, on a reservation."""
        budget, crossed = self.handles.pop(arguments.pop("on")).commit(**arguments)
        return {"usage": budget.usage, "crossed": crossed, "repeated": False}


def read_thresholds(arguments: Fields) -> list[records.Threshold]:
    """The thresholds of a step."""
    return [records.Threshold(item["percent"], records.Severity(item["severity"])) for item in arguments["thresholds"]]


def read_entries(arguments: Fields) -> list[records.UsageEntry]:
    """The entries of a batch."""
    return [records.UsageEntry(**entry) for entry in arguments["entries"]]


def read_states(arguments: Fields) -> list[records.ThreadState]:
    """The states of a page."""
    return [records.ThreadState.from_dict(state) for state in arguments["states"]]


def read_crossed(arguments: Fields) -> records.ThresholdCrossed:
    """The crossed threshold of a step."""
    crossed = arguments["crossed"]
    severity, percent_used = records.Severity(crossed["severity"]), float(crossed["percent_used"])
    return records.ThresholdCrossed(**{**crossed, "severity": severity, "percent_used": percent_used})


CALLS: dict[str, Callable[[Subject, Fields], object]] = {
    "configure": lambda to, a: to.registry.configure(**a),
    "max-tokens-per-thread": lambda to, a: to.registry.max_tokens_per_thread,
    "set-thresholds": lambda to, a: to.registry.set_thresholds(read_thresholds(a)),
    "thresholds": lambda to, a: to.registry.thresholds,
    "set-max-threads": lambda to, a: to.registry.set_max_threads(**a),
    "get-budget": lambda to, a: to.keep(a, to.registry.get_budget),
    "open-thread": lambda to, a: to.keep(a.pop("options") | a, to.registry.open_thread),
    "set-limit": lambda to, a: to.registry.set_limit(**a),
    "check-budget": lambda to, a: to.registry.check_budget(**a),
    "consume": Subject.consume,
    "consume-once": Subject.consume_once,
    "consume-batch": lambda to, a: to.registry.consume_batch(read_entries(a)),
    "reserve": lambda to, a: to.keep(a, to.registry.reserve),
    "take-warnings": lambda to, a: to.registry.take_warnings(**a),
    "has-budget": lambda to, a: to.registry.has_budget(**a),
    "get-usage": lambda to, a: to.registry.get_usage(**a),
    "get-all-usage": lambda to, a: list(to.registry.get_all_usage().items()),
    "held-tokens": lambda to, a: to.registry.held_tokens(**a),
    "reset-thread": lambda to, a: to.registry.reset_thread(**a),
    "cleanup-thread": lambda to, a: to.registry.cleanup_thread(**a),
    "clear": lambda to, a: to.registry.clear(),
    "snapshot": lambda to, a: to.registry.snapshot(**a),
    "restore": lambda to, a: to.registry.restore(read_states(a)),
    "thread-budget.thread-id": lambda to, a: to.budget(a).thread_id,
    "thread-budget.usage": lambda to, a: to.budget(a).usage,
    "thread-budget.percent-used": lambda to, a: to.budget(a).percent_used,
    "thread-budget.is-exhausted": lambda to, a: to.budget(a).is_exhausted,
    "thread-budget.held-tokens": lambda to, a: to.budget(a).held_tokens,
    "thread-budget.is-detached": lambda to, a: to.budget(a).is_detached,
    "thread-budget.can-consume": lambda to, a: to.budget(a).can_consume(a["estimated_tokens"]),
    "thread-budget.consume": Subject.consume_on_handle,
    "thread-budget.triggered-thresholds": lambda to, a: to.budget(a).triggered_thresholds,
    "thread-budget.check-thresholds": lambda to, a: to.budget(a).check_thresholds(read_thresholds(a)),
    "reservation.tokens": lambda to, a: to.reservation(a).tokens,
    "reservation.charged-thread": lambda to, a: to.reservation(a).charged_thread,
    "reservation.commit": Subject.commit,
    "reservation.drop": lambda to, a: to.handles.pop(a["on"]).release(),
    "budget-warning": lambda to, a: to.registry._instance.ask("budget-warning", read_crossed(a)),
}


def failure(error: errors.ThreadBudgetError) -> object:
    """An error, in the words of the vectors."""
    match error:
        case errors.BudgetExhaustedError():
            return {"exhausted": portable(vars(error))}
        case errors.TooManyThreadsError():
            return {"too-many-threads": error.limit}
        case errors.InvalidThresholdError():
            return {"invalid-threshold": error.percent}
        case errors.UnknownParentError():
            return {"unknown-parent": error.parent}
        case errors.ParentCycleError():
            return {"parent-cycle": error.parent}
        case errors.TooDeepError():
            return {"too-deep": error.limit}
        case errors.OptionsDifferError():
            return {"options-differ": error.thread_id}
        case errors.BatchTooLargeError():
            return {"batch-too-large": error.limit}
        case errors.InvalidThreadIdError():
            return "invalid-thread-id"
        case errors.InvalidRequestIdError():
            return "invalid-request-id"
        case errors.InvalidStateError():
            return "invalid-state"
        case errors.RegistryMemoryError():
            return "out-of-memory"
    raise error


def portable(value: Any) -> Any:
    """A result as the vectors write it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    match value:
        case dict():
            return {key: portable(item) for key, item in value.items()}
        case list() | tuple():
            return [portable(item) for item in value]
        case records.Severity():
            return value.value
        case int() if value > LARGEST_PORTABLE:
            return str(value)
    return value


def numbers(value: Any) -> Any:
    """An argument, with the counts that the vectors write as text put back."""
    match value:
        case dict():
            return {key: numbers(item) for key, item in value.items()}
        case list():
            return [numbers(item) for item in value]
        case str() if value.isascii() and value.isdigit() and int(value) > LARGEST_PORTABLE:
            return int(value)
    return value


def same(expected: Any, got: Any) -> bool:
    """Whether two JSON values are the same; a number is compared exactly, and never the same as a bool."""
    match expected, got:
        case dict(), dict():
            return expected.keys() == got.keys() and all(same(expected[key], got[key]) for key in expected)
        case list(), list():
            return len(expected) == len(got) and all(map(same, expected, got))
        case bool(), _:
            return expected is got
        case _, bool():
            return False
    return bool(expected == got)


def check(component: Path, path: Path) -> Fields | None:
    """Put one vector to a fresh registry; the first step that ended otherwise than expected, or None."""
    subject = Subject(component)
    for number, step in enumerate(json.loads(path.read_text("utf-8"))["steps"], 1):
        expected = ("fails", step["fails"]) if "fails" in step else ("returns", step.get("returns"))
        try:
            got = subject.put(step)
        except Exception as error:
            got = ("raises", f"{type(error).__name__}: {error}")
        if expected[0] != got[0] or not same(expected[1], got[1]):
            vector = path.relative_to(path.parent.parent).with_suffix("").as_posix()
            show = (f"{kind} {json.dumps(value)}" for kind, value in (expected, got))
            return {"vector": vector, "step": number, **dict(zip(("expected", "got"), show))}
    return None


def nanoseconds_per_call(component: Path) -> dict[str, int]:
    """What a call on an existing thread takes: the median of rounds."""
    registry = ThreadBudgetRegistry(1 << 60, component=component)
    registry.get_budget("agent-7")
    calls: dict[str, Callable[[], object]] = {
        "has-budget": lambda: registry.has_budget("agent-7"),
        "check-budget": lambda: registry.check_budget("agent-7", 1_000),
        "consume": lambda: registry.consume("agent-7", 1_400, 300),
    }
    return {name: round(statistics.median(rounds_of(call))) for name, call in calls.items()}


def rounds_of(call: Callable[[], object], rounds: int = 15, calls: int = 2_000) -> list[float]:
    """Nanoseconds that a call takes, in each of several rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        times.append((time.perf_counter_ns() - start) / calls)
    return times


def main(arguments: list[str]) -> int:
    """Run all vectors."""
    if len(arguments) != 2:
        print("usage: python -m thread_budget.vectors COMPONENT VECTORS", file=sys.stderr)
        return 2
    component, folder = map(Path, arguments)
    groups: dict[str, dict[str, int]] = {}
    failures: list[Fields] = []
    try:
        ThreadBudgetRegistry(component=component)
        paths = sorted(folder.glob("*/*.json"))
        if not paths:
            raise FileNotFoundError(f"there are no vectors in {folder}")
        for path in paths:
            failed = check(component, path)
            counts = groups.setdefault(path.parent.name, {"passed": 0, "failed": 0})
            counts["passed" if failed is None else "failed"] += 1
            failures += [] if failed is None else [failed]
        times = nanoseconds_per_call(component)
    except (errors.ThreadBudgetError, OSError, ValueError, LookupError) as error:
        print(f"cannot run the vectors: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    host = f"Python {platform.python_version()}, wasmtime {version('wasmtime')}"
    print(json.dumps({"host": host, "groups": groups, "failures": failures, "nanoseconds_per_call": times}, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
