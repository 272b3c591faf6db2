"""Live handles on a registry: a thread's budget, and tokens held for a request in flight."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from ._instance import Handle, Instance
from .records import Recorded, Threshold, ThresholdCrossed, Usage

#: One for each percent: more cannot mean anything.
MAX_THRESHOLDS = 100


def check_count(thresholds: Sequence[Threshold]) -> list[Threshold]:
    """The thresholds, unless there are more than can mean anything."""
    if len(thresholds) > MAX_THRESHOLDS:
        raise ValueError(f"{len(thresholds):,} thresholds: there can be at most {MAX_THRESHOLDS}")
    return list(thresholds)


class ThreadBudget:
    """A live view of one thread's budget: it sees what others consume and they see what it consumes.

    After `reset_thread`, `cleanup_thread` or `clear` it goes on counting on its own, detached from the registry. It is
    freed when it is closed, at the end of its ``with`` block, or once nothing refers to it.
    """

    __slots__ = ("__weakref__", "_as_of", "_closed", "_handle", "_instance", "_thread_id", "_usage")

    def __init__(self, instance: Instance, thread_id: str, handle: Handle | None, usage: Usage | None = None) -> None:
        # Without a handle, `open` gets one when it is needed; the registry sees to it that this is before it forgets
        # the thread. Most results of `consume` are dropped, or read once, and then it is not needed.
        self._instance = instance
        self._thread_id = thread_id
        self._handle = handle
        self._usage = usage
        self._as_of = -1 if usage is None else instance.changes
        self._closed = False

    def __repr__(self) -> str:
        return f"<ThreadBudget {self._thread_id!r}>"

    def __enter__(self) -> ThreadBudget:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the handle. Its thread goes on; further use of this object is a ``ValueError``."""
        with self._instance.lock:
            self._closed = True
            self._as_of = -1
            if self._handle is not None:
                self._instance.drop(self._handle)

    @property
    def thread_id(self) -> str:
        """The thread this budget was created for."""
        return self._thread_id

    @property
    def usage(self) -> Usage:
        """The counts of now, all of the same moment."""
        with self._instance.lock:
            if self._usage is None or self._as_of != self._instance.changes:
                self._usage = self._ask("usage")
                self._as_of = self._instance.changes
            return self._usage

    @property
    def max_tokens(self) -> int:
        """The limit, in tokens."""
        return self.usage.max_tokens

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens consumed so far."""
        return self.usage.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """Completion tokens consumed so far."""
        return self.usage.completion_tokens

    @property
    def total_tokens(self) -> int:
        """Tokens consumed so far. It may pass `max_tokens`."""
        return self.usage.total_tokens

    @property
    def remaining(self) -> int:
        """Tokens left before the limit, never below 0."""
        return self.usage.remaining

    @property
    def request_count(self) -> int:
        """How many times consumption was recorded."""
        return self.usage.request_count

    @property
    def percent_used(self) -> float:
        """Total of the limit in percent, not rounded; 0 when the limit is 0. Passes 100 on overshoot."""
        percent: float = self._ask("percent-used")
        return percent

    @property
    def is_exhausted(self) -> bool:
        """Whether the total has reached the limit."""
        exhausted: bool = self._ask("is-exhausted")
        return exhausted

    @property
    def held_tokens(self) -> int:
        """Tokens that live reservations hold, of this thread and of those below it."""
        held: int = self._ask("held-tokens")
        return held

    @property
    def is_detached(self) -> bool:
        """Whether the registry no longer counts this budget, after a reset, cleanup or clear."""
        detached: bool = self._ask("is-detached")
        return detached

    @property
    def triggered_thresholds(self) -> list[int]:
        """The thresholds crossed so far, percent, ascending."""
        triggered: list[int] = self._ask("triggered-thresholds")
        return triggered

    def can_consume(self, estimated_tokens: int) -> bool:
        """Whether total + held + estimate stays within the limit, here and in every ancestor."""
        fits: bool = self._ask("can-consume", estimated_tokens)
        return fits

    def consume(self, prompt_tokens: int, completion_tokens: int) -> list[ThresholdCrossed]:
        """Record what an LLM call used and report the registry's thresholds that it crossed."""
        with self._instance.lock:
            recorded: Recorded = self._instance.call(
                "[method]thread-budget.consume", self.open().resource, prompt_tokens, completion_tokens
            )
            self._usage, self._as_of = recorded.usage, self._instance.changes
            return recorded.crossed

    def check_thresholds(self, thresholds: Sequence[Threshold]) -> list[ThresholdCrossed]:
        """Report which of these are reached and were not reported before, and mark them as reported."""
        with self._instance.lock:
            crossed: list[ThresholdCrossed] = self._instance.call(
                "[method]thread-budget.check-thresholds", self.open().resource, check_count(thresholds)
            )
            return crossed

    def _ask(self, method: str, *arguments: Any) -> Any:
        with self._instance.lock:
            return self._instance.ask(f"[method]thread-budget.{method}", self.open().resource, *arguments)

    def open(self) -> Handle:
        """The handle, gotten now if there was none. Not for users of the registry."""
        if self._closed:
            raise ValueError("this budget is closed; get it from the registry again")
        if self._handle is None:
            self._handle = Handle(self._instance, self._instance.ask("get-budget", self._thread_id))
        return self._handle


class Consumed(NamedTuple):
    """What a recorded consumption led to; ``budget, crossed = ...`` takes it apart."""

    budget: ThreadBudget
    """The thread's budget, live."""
    crossed: list[ThresholdCrossed]
    """The thresholds this call crossed: the thread's own, ascending, then those of its ancestors. Mostly empty."""


class ConsumedOnce(NamedTuple):
    """What `consume_once` led to."""

    budget: ThreadBudget
    """The thread's budget, live."""
    crossed: list[ThresholdCrossed]
    """The thresholds this call crossed. Empty when it was repeated."""
    repeated: bool
    """Whether the thread knew the request: nothing was counted then."""


class Reservation:
    """Tokens held for a request in flight: every check counts them as used until they are committed or released.

    Leaving its ``with`` block releases what was not committed, as does forgetting it.
    """

    __slots__ = ("__weakref__", "_budget", "_handle", "_instance")

    def __init__(self, instance: Instance, handle: Handle, budget: ThreadBudget) -> None:
        self._instance = instance
        self._handle = handle
        self._budget = budget

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    @property
    def tokens(self) -> int:
        """How many tokens it holds. ``ValueError`` once it was committed or released."""
        with self._instance.lock:
            tokens: int = self._instance.ask("[method]reservation.tokens", self._handle.resource)
            return tokens

    @property
    def charged_thread(self) -> str | None:
        """The thread that a commit counts on: its own or, when that is forgotten, its nearest ancestor left."""
        with self._instance.lock:
            thread: str | None = self._instance.ask("[method]reservation.charged-thread", self._handle.resource)
            return thread

    def commit(self, prompt_tokens: int, completion_tokens: int) -> Consumed:
        """Replace the hold by what was really used, more or less. It can be done once.

        It counts on `charged_thread`; the budget returned is the one the reservation was made on.
        """
        with self._instance.lock:
            recorded: Recorded = self._instance.call(
                "[static]reservation.commit", self._handle.resource, prompt_tokens, completion_tokens
            )
            self._handle.take()
            return Consumed(self._budget, recorded.crossed)

    def release(self) -> None:
        """Give the held tokens back. Nothing happens when it was committed or released before."""
        self._instance.drop(self._handle)
