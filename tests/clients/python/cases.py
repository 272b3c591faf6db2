"""What the cases of every client share: the stub's side, and how they are run."""

import json
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

LIMIT = 20_000
"""Tokens of a thread, as the router is started."""

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
    "required": ["city", "unit"],
}
"""The arguments of the tool of the cases."""

ARGUMENTS = {"city": "Oslo", "unit": "celsius"}
"""With which the stub calls the tool."""


@dataclass
class Stub:
    """The stand-in for the provider, asked directly what it got."""

    url: str

    def _call(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}/stub/{path}", method=method)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def clear(self) -> None:
        """Forget what it got."""
        self._call("DELETE", "requests")

    def requests(self) -> list[dict[str, Any]]:
        """The requests since then, in order."""
        requests: list[dict[str, Any]] = self._call("GET", "requests")
        return requests

    def bodies(self) -> list[Any]:
        """Their bodies."""
        return [request["body"] for request in self.requests()]

    def billed(self) -> dict[str, int]:
        """What it billed since then."""
        billed: dict[str, int] = self._call("GET", "stats")["billed"]
        return billed


@dataclass
class World:
    """Where a case runs."""

    stub: Stub
    base_url: str
    through_router: bool
    sent: list[str] = field(default_factory=list)
    """The paths of the requests that the client has sent, retries included."""

    def thread(self, name: str) -> dict[str, str]:
        """The header that names a thread, one for each run."""
        return {"x-thread-id": f"{name}-{time.time_ns()}"}


Case = Callable[[World], None]
_CASES: list[tuple[str, Case, bool]] = []


def case(name: str, *, needs_router: bool = False) -> Callable[[Case], Case]:
    """Register a case."""

    def register(run: Case) -> Case:
        _CASES.append((name, run, needs_router))
        return run

    return register


def equal(got: object, expected: object, what: str = "") -> None:
    """Fail unless both are equal."""
    assert got == expected, f"{what} expected {expected!r}, got {got!r}"


def incremental(stream: Iterable[Any]) -> list[Any]:
    """All of a stream whose events are 20 ms apart; fail unless they arrive while it runs."""
    events, times = [], []
    for event in stream:
        events.append(event)
        times.append(time.monotonic())
    assert len(events) >= 16, f"{len(events)} events"
    apart = times[-1] - times[0]
    assert apart >= 0.2, f"all arrived within {apart:.3f} s"
    return events


def read(stream: Iterable[Any]) -> list[Any]:
    """All of a stream that is to be cut; fail when it never is."""
    events: list[Any] = []
    for event in stream:
        events.append(event)
        assert len(events) < 10 * LIMIT, "it is not cut"
    return events


def is_announced(text: str, percent: int) -> None:
    """Fail unless a text ends with a warning in full, of a threshold that was just crossed."""
    assert f"Note: {percent}% of the token budget is used" in text, text


def is_reminded(text: str, percent: int) -> None:
    """Fail unless a text ends with the line that every request of a thread has once it was warned."""
    assert f"Token budget: {percent}% used" in text, text


def run(client: str) -> None:
    """Run every case; the arguments are the stub's URL and perhaps the router's."""
    stub, *router = sys.argv[1:]
    for name, run_case, needs_router in _CASES:
        world = World(Stub(stub), (router or [stub])[0], bool(router))
        line = {"client": client, "case": name, "outcome": "passed"}
        if needs_router and not router:
            line |= {"outcome": "skipped", "detail": "it is about the router"}
        else:
            world.stub.clear()
            try:
                run_case(world)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)
                lines = [frame.lineno for frame in where if frame.filename.endswith("_cases.py")]
                detail = f"line {lines[-1] if lines else '?'}: {type(error).__name__}: {error}"
                line |= {"outcome": "failed", "detail": detail}
        print(json.dumps(line), flush=True)
