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

from ._instance import Calls, Resource
from .contract import Severity
from .errors import ContractError, ThreadBudgetError
from .registry import ThreadBudgetRegistry

#: The largest count that the vectors write as a number; a larger one is a decimal string.
LARGEST_PORTABLE = 1 << 53

#: Errors that are a text; the vectors leave it to the component.
TEXTS = ("invalid-thread-id", "invalid-request-id", "invalid-state")

#: What a step has beside its arguments.
WORDS = ("call", "on", "as", "returns", "fails")

Fields = dict[str, Any]


class Subject:
    """A fresh instance, and the handles that a vector's steps made on it."""

    def __init__(self, component: Path) -> None:
        self.calls = Calls(component)
        self.handles: dict[str, Resource] = {}

    def put(self, step: Fields) -> tuple[str, Any]:
        """Make a step's call; how it ended, in the words of the vectors."""
        name = step["call"].replace("-", "_").replace(".", "_")
        if name not in self.calls.names():
            return "unknown call", step["call"]
        arguments = {key: numbers(value) for key, value in step.items() if key not in WORDS}
        handle = [self.handles[step["on"]]] if "on" in step else []
        try:
            # The first parameter of a method is the handle.
            ordered = [arguments.pop(parameter) for parameter in self.calls.parameters(name)[len(handle) :]]
            if arguments:
                raise LookupError(f"{step['call']} has no {', '.join(arguments)}")
            returned = getattr(self.calls, name)(*handle, *ordered)
        except ContractError as error:
            return "fails", failure(error)
        if isinstance(returned, Resource):
            self.handles[step["as"]] = returned
            returned = None
        return "returns", portable(returned)


def failure(error: ContractError) -> object:
    """An error, in the words of the vectors."""
    if not error.args or error.case in TEXTS:
        return error.case
    return {error.case: portable(vars(error) if len(error.args) > 1 else error.args[0])}


def portable(value: Any) -> Any:
    """A result as the vectors write it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    match value:
        case dict():
            return {key: portable(item) for key, item in value.items()}
        case list() | tuple():
            return [portable(item) for item in value]
        case Severity():
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
        Calls(component)
        paths = sorted(folder.glob("*/*.json"))
        if not paths:
            raise FileNotFoundError(f"there are no vectors in {folder}")
        for path in paths:
            failed = check(component, path)
            counts = groups.setdefault(path.parent.name, {"passed": 0, "failed": 0})
            counts["passed" if failed is None else "failed"] += 1
            failures += [] if failed is None else [failed]
        times = nanoseconds_per_call(component)
    except (ThreadBudgetError, OSError, ValueError, LookupError) as error:
        print(f"cannot run the vectors: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    host = f"Python {platform.python_version()}, wasmtime {version('wasmtime')}"
    print(json.dumps({"host": host, "groups": groups, "failures": failures, "nanoseconds_per_call": times}, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
