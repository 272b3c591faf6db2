"""The registry: a token budget for every thread of an agent, kept by the WebAssembly component."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

from ._instance import DEFAULT_MEMORY_LIMIT, Handle, Instance, built_in_component
from ._responses import tokens_of
from .errors import (
    BatchTooLargeError,
    InvalidRequestIdError,
    InvalidStateError,
    InvalidThreadIdError,
    ThreadBudgetError,
)
from .handles import Consumed, ConsumedOnce, Reservation, ThreadBudget, check_count
from .records import (
    CLASSES,
    BudgetWarning,
    FinalBudget,
    Recorded,
    ThreadOptions,
    ThreadState,
    Threshold,
    ThresholdCrossed,
    Usage,
    UsageEntry,
)

# An argument that the component's memory cannot hold is a trap, so nothing larger than this crosses.
_MAX_THREAD_ID = 1_024
_MAX_REQUEST_ID = 256
_MAX_BATCH = 4_096
_MAX_ARGUMENT_BYTES = 128 << 10


class ThreadBudgetRegistry:
    """A token budget per thread. Any Python thread may use it.

    A thread is created by its first use. A thread id is 1 to 1,024 bytes of UTF-8: a call that would create a thread
    raises `InvalidThreadIdError` for anything else, a question about it is answered as for an unknown thread. A count
    of tokens is an ``int`` of 0 to 2^64-1, anything else is a ``TypeError`` or a ``ValueError``.

    ``max_tokens_per_thread`` is the limit of new threads, 100,000 when None. ``memory_limit`` is what the component's
    memory may take, in bytes; beyond it new threads are refused with `RegistryMemoryError`. ``component`` is the path
    of another build of the component than the one in this package.
    """

    def __init__(
        self,
        max_tokens_per_thread: int | None = None,
        *,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        component: str | os.PathLike[str] | None = None,
    ) -> None:
        path = built_in_component() if component is None else Path(component)
        self._instance = Instance(path, CLASSES, memory_limit)
        self._unopened: WeakSet[ThreadBudget] = WeakSet()
        if max_tokens_per_thread is not None:
            self.configure(max_tokens_per_thread)

    def configure(self, max_tokens_per_thread: int) -> None:
        """Set the limit of threads created from now on; threads that exist keep theirs, see `set_limit`."""
        self._instance.call("configure", max_tokens_per_thread)

    @property
    def max_tokens_per_thread(self) -> int:
        """The limit that a new thread gets, in tokens."""
        limit: int = self._instance.ask("max-tokens-per-thread")
        return limit

    def set_thresholds(self, thresholds: Sequence[Threshold]) -> None:
        """Replace the thresholds, for every thread from its next consumption on; an empty list turns warnings off.

        `InvalidThresholdError` when a percent is outside 1 to 100 or given twice.
        """
        self._instance.call("set-thresholds", check_count(thresholds))

    @property
    def thresholds(self) -> list[Threshold]:
        """The thresholds in force, ascending: 75 warning, 90 critical, 95 final unless set."""
        thresholds: list[Threshold] = self._instance.ask("thresholds")
        return thresholds

    def set_max_threads(self, max_threads: int) -> None:
        """Set how many threads may exist, 0 to 2^32-1; new ones beyond are refused with `TooManyThreadsError`."""
        self._instance.call("set-max-threads", max_threads)

    def get_budget(self, thread_id: str) -> ThreadBudget:
        """A live handle on a thread's budget; the thread is created when it does not exist."""
        return self._handle(thread_id, "get-budget", _new_id(thread_id))

    def open_thread(self, thread_id: str, *, max_tokens: int | None = None, parent: str | None = None) -> ThreadBudget:
        """Create a thread with a limit of its own, or below a parent, or both. What it uses and holds counts in its
        ancestors too, and a check asks all of them.

        A thread that exists is returned when it has what is asked for, else it is an `OptionsDifferError`. Other
        errors: `UnknownParentError`, `ParentCycleError`, `TooDeepError`.
        """
        options = ThreadOptions(max_tokens, None if parent is None else _known_id(parent))
        return self._handle(thread_id, "open-thread", _new_id(thread_id), options)

    def set_limit(self, thread_id: str, max_tokens: int) -> Usage:
        """Give a thread another limit, which it keeps over a reset, and return its usage under it.

        The thread is created when it does not exist. Below what is used it is exhausted. Thresholds that it does not
        reach under the new limit fire when they are reached again, those that it newly reaches with the next use.
        """
        usage: Usage = self._instance.call("set-limit", _new_id(thread_id), max_tokens)
        return usage

    def check_budget(self, thread_id: str, estimated_tokens: int = 0) -> None:
        """Ask, before an LLM call, whether the thread may use so many tokens more.

        `BudgetExhaustedError` when it is used up, or when the estimate does not fit, here or in an ancestor.
        """
        self._instance.call("check-budget", _new_id(thread_id), estimated_tokens)

    def consume(self, thread_id: str, prompt_tokens: int, completion_tokens: int) -> Consumed:
        """Record, after an LLM call, what it used. An overshoot is recorded too."""
        with self._instance.lock:
            recorded = self._instance.call("consume", _new_id(thread_id), prompt_tokens, completion_tokens)
            return Consumed(self._budget(thread_id, recorded.usage), recorded.crossed)

    def consume_once(self, thread_id: str, request_id: str, prompt_tokens: int, completion_tokens: int) -> ConsumedOnce:
        """`consume`, unless the request is among the latest 64 that the thread counted this way.

        A request id is 1 to 256 bytes of UTF-8, else `InvalidRequestIdError`.
        """
        if isinstance(request_id, str) and len(request_id) > _MAX_REQUEST_ID:
            raise InvalidRequestIdError(f"a request id has 1 to {_MAX_REQUEST_ID} bytes of UTF-8, this one has more")
        with self._instance.lock:
            recorded: Recorded = self._instance.call(
                "consume-once", _new_id(thread_id), request_id, prompt_tokens, completion_tokens
            )
            return ConsumedOnce(self._budget(thread_id, recorded.usage), recorded.crossed, recorded.repeated)

    def consume_batch(self, entries: Iterable[UsageEntry]) -> list[ThresholdCrossed]:
        """Record several in one call, in their order: all of them, or none when an error is raised.

        `BatchTooLargeError` past 4,096 entries or 128 KiB of thread ids.
        """
        entries = list(entries)
        if len(entries) > _MAX_BATCH:
            raise BatchTooLargeError(_MAX_BATCH)
        if sum(_bytes(entry.thread_id) for entry in entries if isinstance(entry, UsageEntry)) > _MAX_ARGUMENT_BYTES:
            raise BatchTooLargeError(_MAX_ARGUMENT_BYTES)
        crossed: list[ThresholdCrossed] = self._instance.call("consume-batch", entries)
        return crossed

    def record_response(self, thread_id: str, response: object) -> Consumed:
        """`consume` what a response of the `openai` or `anthropic` package says it used.

        Anthropic's cached input tokens count as prompt tokens. ``ValueError`` for a response without usage.
        """
        return self.consume(thread_id, *tokens_of(response))

    def reserve(self, thread_id: str, estimated_tokens: int) -> Reservation:
        """Check as `check_budget` does, and hold the tokens, so that concurrent calls cannot pass the same check.

        >>> with registry.reserve("agent-7", 800) as reservation:  # doctest: +SKIP
        ...     reservation.commit(300, 150)
        """
        with self._instance.lock:
            resource = self._instance.call("reserve", _new_id(thread_id), estimated_tokens)
            return Reservation(self._instance, Handle(self._instance, resource), self._budget(thread_id))

    def take_warnings(self, thread_id: str) -> list[BudgetWarning]:
        """The warnings for crossed thresholds that were not taken before, each once, with the numbers of now."""
        warnings: list[BudgetWarning] = self._instance.call("take-warnings", _known_id(thread_id))
        return warnings

    def has_budget(self, thread_id: str) -> bool:
        """Whether the thread exists."""
        exists: bool = self._instance.ask("has-budget", _known_id(thread_id))
        return exists

    def get_usage(self, thread_id: str) -> Usage | None:
        """The thread's usage, or None when it does not exist."""
        usage: Usage | None = self._instance.ask("get-usage", _known_id(thread_id))
        return usage

    def get_all_usage(self) -> dict[str, Usage]:
        """Every thread's usage, ascending by thread id (byte order)."""
        return dict(self._instance.ask("get-all-usage"))

    def held_tokens(self, thread_id: str) -> int:
        """Tokens that live reservations hold, of the thread and of those below it; 0 when it does not exist."""
        held: int = self._instance.ask("held-tokens", _known_id(thread_id))
        return held

    def reset_thread(self, thread_id: str) -> None:
        """Forget the thread: its next use starts from zero. One that was opened starts from zero in its place."""
        self._forget("reset-thread", _known_id(thread_id))

    def cleanup_thread(self, thread_id: str) -> FinalBudget | None:
        """Forget the thread, and every thread below it, and return its final budget; None when it does not exist."""
        final: FinalBudget | None = self._forget("cleanup-thread", _known_id(thread_id))
        return final

    def clear(self) -> None:
        """Forget every thread. The limit, the thresholds and the thread limit stay."""
        self._forget("clear")

    def snapshot(self, after: str | None = None, limit: int = 256) -> list[ThreadState]:
        """The states of up to ``limit`` threads: those after the thread ``after``, or the first ones.

        Parents come before their children. A page may be shorter than asked for; an empty one is the end. Holds and
        settings are not in it.
        """
        states: list[ThreadState] = self._instance.ask("snapshot", None if after is None else _known_id(after), limit)
        return states

    def restore(self, states: Iterable[ThreadState]) -> None:
        """Bring threads back, all of them, or none when an error is raised. Restore pages in the order they were taken.

        `InvalidStateError` when a state contradicts itself, its thread exists, or the page has more than 128 KiB.
        """
        states = list(states)
        if sum(_state_bytes(state) for state in states if isinstance(state, ThreadState)) > _MAX_ARGUMENT_BYTES:
            raise InvalidStateError(f"a page of more than {_MAX_ARGUMENT_BYTES:,} bytes; restore it in parts, in order")
        self._instance.call("restore", states)

    def _handle(self, thread_id: str, name: str, *arguments: Any) -> ThreadBudget:
        with self._instance.lock:
            resource = self._instance.call(name, *arguments)
            return ThreadBudget(self._instance, thread_id, Handle(self._instance, resource))

    def _budget(self, thread_id: str, usage: Usage | None = None) -> ThreadBudget:
        """A budget that gets its handle when it is needed."""
        budget = ThreadBudget(self._instance, thread_id, None, usage)
        self._unopened.add(budget)
        return budget

    def _forget(self, name: str, *arguments: Any) -> Any:
        with self._instance.lock:
            # A budget that somebody holds has to stay on what is forgotten now.
            while (budget := self._pop_unopened()) is not None:
                try:
                    budget.open()
                except (ThreadBudgetError, ValueError):
                    # No memory for a handle, or closed already: forgetting goes on, and frees some.
                    budget.close()
            return self._instance.call(name, *arguments)

    def _pop_unopened(self) -> ThreadBudget | None:
        try:
            return self._unopened.pop()
        except KeyError:  # the only way to know: another thread may let go of the last one at any time
            return None


def _new_id(thread_id: str) -> str:
    if isinstance(thread_id, str) and len(thread_id) > _MAX_THREAD_ID:
        raise InvalidThreadIdError(f"a thread id has 1 to {_MAX_THREAD_ID:,} bytes of UTF-8, this one has more")
    return thread_id


def _known_id(thread_id: str) -> str:
    """For a question: no thread has an id that is too long, or an empty one."""
    return "" if isinstance(thread_id, str) and len(thread_id) > _MAX_THREAD_ID else thread_id


def _bytes(text: object) -> int:
    """The most that it can be in UTF-8, without looking at what is not text: that is refused later."""
    return len(text) if isinstance(text, str) and text.isascii() else 4 * len(text) if isinstance(text, str) else 0


def _state_bytes(state: ThreadState) -> int:
    return 128 + sum(_bytes(text) for text in (state.thread_id, state.parent, *state.request_ids))


_global_lock = threading.Lock()
_global: ThreadBudgetRegistry | None = None


def get_budget_registry() -> ThreadBudgetRegistry:
    """The registry of this process, made at its first use."""
    global _global
    with _global_lock:
        if _global is None:
            _global = ThreadBudgetRegistry()
        return _global


def configure_budget_registry(max_tokens_per_thread: int) -> ThreadBudgetRegistry:
    """Set the limit of new threads in the registry of this process, and return it. Threads that exist keep theirs."""
    registry = get_budget_registry()
    registry.configure(max_tokens_per_thread)
    return registry


def reset_budget_registry() -> None:
    """Let go of the registry of this process; its next use makes a new one."""
    global _global
    with _global_lock:
        _global = None
