"""One thread's budget, live or alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

from ._instance import BUILT_IN, Calls, Resource
from .contract import (
    BudgetThresholdCrossed,
    Consumed,
    FinalBudget,
    Severity,
    ThreadBudgetCalls,
    ThreadState,
    Threshold,
    Usage,
)
from .errors import RegistryMemoryError

#: The thresholds of a new registry: percent of the limit, and what the warning is called.
DEFAULT_WARNING_THRESHOLDS: dict[int, str] = {75: "warning", 90: "critical", 95: "final"}

#: The counts that a budget is made of.
_COUNTS: tuple[Literal["max_tokens", "prompt_tokens", "completion_tokens", "request_count"], ...]
_COUNTS = ("max_tokens", "prompt_tokens", "completion_tokens", "request_count")

#: One for each percent: more thresholds, or warnings for them, cannot mean anything.
_MOST = 100

T = TypeVar("T")


def no_more_than_percents(given: Iterable[T]) -> list[T]:
    """What was given, unless there are more than can mean anything."""
    given = list(given)
    if len(given) > _MOST:
        raise ValueError(f"{len(given):,} thresholds: there can be at most {_MOST}")
    return given


class ThreadBudget(ThreadBudgetCalls):
    """A live view of one thread's budget: it sees what others consume and they see what it consumes.

    After `reset_thread`, `cleanup_thread` or `clear` it goes on counting on its own, detached from the registry. One
    made by hand, ``ThreadBudget(max_tokens=1000)``, does so from the start.
    """

    _thread_id = ""
    _kept: Resource | None
    _unkept: RegistryMemoryError | None = None
    """Why it could not stay on a budget that was forgotten."""

    def __init__(
        self,
        max_tokens: int,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        request_count: int = 0,
        triggered_thresholds: Iterable[int] = (),
    ) -> None:
        triggered = [Threshold(percent, Severity.WARNING) for percent in sorted(triggered_thresholds)]
        state = ThreadState(
            thread_id=self._thread_id or "budget",
            birth=1,
            parent=None,
            opened=True,
            max_tokens=max_tokens,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            request_count=request_count,
            average_tokens=0,
            triggered_thresholds=triggered,
            pending_thresholds=[],
            request_ids=[],
            holds=[],
            lost=[],
        )
        # A thread of a registry that forgets it at once, so that it goes on counting on its own.
        self._calls = calls = _registry_of_nobody()
        with calls.instance.lock:
            calls.restore([state])
            self._kept = calls.get_budget(state.thread_id)
            calls.cleanup_thread(state.thread_id)

    @classmethod
    def of_thread(cls, calls: Calls, thread_id: str, resource: Resource | None = None) -> ThreadBudget:
        """The budget of a thread of a registry, for the registry to make.

        Without a resource it gets one when it is needed, before the registry forgets the thread. Most results of
        `consume` are dropped at once, and then it is not needed.
        """
        budget = cls.__new__(cls)
        budget._calls, budget._thread_id, budget._kept = calls, thread_id, resource
        return budget

    @classmethod
    def of_final(cls, thread_id: str, final: FinalBudget) -> ThreadBudget:
        """The budget of a thread that is gone."""
        budget = cls.__new__(cls)
        budget._thread_id = thread_id
        counts = {name: final.usage[name] for name in _COUNTS}
        budget.__init__(**counts, triggered_thresholds=final.triggered_thresholds)  # type: ignore[misc]
        return budget

    def __repr__(self) -> str:
        usage = self.usage
        counts = ", ".join(f"{name}={usage[name]}" for name in _COUNTS)
        return f"ThreadBudget({counts}, triggered_thresholds={self.triggered_thresholds})"

    @property
    def _resource(self) -> Resource:
        kept = self._kept
        if kept is None:
            if self._unkept is not None:
                raise self._unkept
            self._kept = kept = self._calls.get_budget(self._thread_id)
        return kept

    def keep(self) -> bool:
        """Stay on the budget of now, for the registry that is about to forget the thread. Says whether it could."""
        try:
            self._resource  # noqa: B018
        except RegistryMemoryError as error:
            self._unkept = error
            return False
        return True

    @property
    def thread_id(self) -> str:
        """The thread this budget is of; empty when it was made by hand."""
        return self._thread_id

    @property
    def max_tokens(self) -> int:
        """The limit, in tokens."""
        return self.usage["max_tokens"]

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens consumed so far."""
        return self.usage["prompt_tokens"]

    @property
    def completion_tokens(self) -> int:
        """Completion tokens consumed so far."""
        return self.usage["completion_tokens"]

    @property
    def total_tokens(self) -> int:
        """Tokens consumed so far. It may pass `max_tokens`."""
        return self.usage["total_tokens"]

    @property
    def remaining(self) -> int:
        """Tokens left before the limit, never below 0."""
        return self.usage["remaining"]

    @property
    def request_count(self) -> int:
        """How many times consumption was recorded."""
        return self.usage["request_count"]

    @property
    def triggered_thresholds(self) -> set[int]:
        """The thresholds this budget has crossed so far, percent."""
        return set(self._calls.thread_budget_triggered_thresholds(self._resource))

    def consume(self, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """Record what an LLM call used, and nothing else.

        The thresholds that it crosses are reported by `check_thresholds`, or with the next use through the registry.
        """
        calls = self._calls
        with calls.instance.lock:
            thresholds = calls.thresholds()
            calls.set_thresholds([])
            try:
                calls.thread_budget_consume(self._resource, prompt_tokens, completion_tokens)
            finally:
                calls.set_thresholds(thresholds)

    def check_thresholds(self, thresholds: Mapping[int, str] | None = None) -> list[BudgetThresholdCrossed]:
        """Report which of these are reached and were not reported before, ascending, and mark them as reported.

        ``thresholds`` says by what name each percent, 1 to 100, is reported. Without it, they are those in force.
        """
        if thresholds is None:
            thresholds = {each.percent: each.severity for each in self._calls.thresholds()}
        given = no_more_than_percents(Threshold(percent, _severity(name)) for percent, name in thresholds.items())
        crossed: list[BudgetThresholdCrossed] = self._calls.thread_budget_check_thresholds(self._resource, given)
        for crossing in crossed:
            crossing.severity = thresholds[crossing.threshold_percent]
        return crossed


def _severity(name: str) -> Severity:
    """What the component calls a threshold of any name."""
    return Severity(name) if name in Severity._value2member_map_ else Severity.WARNING


class Consumption(tuple[ThreadBudget, list[BudgetThresholdCrossed]]):
    """What a recorded consumption led to: ``budget, crossed = registry.consume(...)``, and where the thread stands."""

    usage: Usage
    """The thread's usage after the call."""
    room: int
    """What the thread has left beside what is used and held, of its own and of all its ancestors."""
    severity: Severity | None
    """The most urgent severity the thread has crossed under its limit, if any."""

    def __new__(cls, budget: ThreadBudget, consumed: Consumed) -> Consumption:
        """Put both together."""
        made = tuple.__new__(cls, (budget, consumed.crossed))
        made.usage, made.room, made.severity = consumed.usage, consumed.room, consumed.severity
        return made

    @property
    def budget(self) -> ThreadBudget:
        """The thread's budget, live."""
        return self[0]

    @property
    def crossed(self) -> list[BudgetThresholdCrossed]:
        """The thresholds this call crossed: the thread's own, ascending, then those of its ancestors. Mostly empty."""
        return self[1]


_nobodys: Calls | None = None


def _registry_of_nobody() -> Calls:
    """The registry in which budgets are made that stand alone. A new one after a fork, or should it be lost."""
    global _nobodys
    if _nobodys is None or _nobodys.instance.lost is not None:
        _nobodys = Calls(BUILT_IN)
    return _nobodys
