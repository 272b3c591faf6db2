"""The registry: a token budget for every thread of an agent, kept by the WebAssembly component."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from weakref import ref

from ._instance import BUILT_IN, DEFAULT_MEMORY_LIMIT, Calls, Resource
from ._responses import tokens_of
from .budget import Consumption, ThreadBudget, no_more_than_percents
from .contract import (
    Acknowledgement,
    BudgetThresholdCrossed,
    BudgetWarning,
    FinalBudget,
    RegistryCalls,
    ThreadOptions,
    ThreadState,
    Threshold,
    Usage,
    UsageEntry,
)
from .errors import BatchTooLargeError, ForkedError, InvalidStateError, RegistryLostError
from .hold import Hold, LostCalls, check_lost_calls

# An argument that the component's memory cannot hold is a trap, so no larger list than this crosses.
_MAX_BATCH = 4_096
_MAX_ARGUMENT_BYTES = 128 << 10

#: What a record takes there beside its texts, or more.
_RECORD = 128

#: So few dead references to budgets do no harm.
_FEW = 1_000


class ThreadBudgetRegistry(RegistryCalls):
    """A token budget per thread. Any Python thread may use it.

    A thread is created by its first use. A thread id is 1 to 1,024 bytes of UTF-8: a call that would create a thread
    raises `InvalidThreadIdError` for anything else, a question about it is answered as for an unknown thread. A count
    of tokens is an ``int`` of 0 to 2^64-1, anything else is a ``TypeError`` or a ``ValueError``. A record may be
    given as a mapping of its fields too.

    ``max_tokens_per_thread`` is the limit of new threads. ``lost_calls`` is what a request costs whose answer nobody
    knows, see `Hold`. ``memory_limit`` is what the component's memory may take, in bytes; beyond it new threads are
    refused with `RegistryMemoryError`. ``component`` is the path of another build of the component than the one in this
    package.
    """

    def __init__(
        self,
        max_tokens_per_thread: int | None = None,
        *,
        lost_calls: LostCalls = "prompt",
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        component: str | os.PathLike[str] | None = None,
    ) -> None:
        self._lost_calls = check_lost_calls(lost_calls)
        self._calls = Calls(BUILT_IN if component is None else Path(component), memory_limit)
        # Those that somebody has, of threads that exist. References that are dead go when there are too many.
        self._budgets: dict[str, ref[ThreadBudget]] = {}
        self._too_many = _FEW
        # Whether a thread may be below another.
        self._has_trees = False
        if max_tokens_per_thread is not None:
            self.configure(max_tokens_per_thread)

    def set_thresholds(self, thresholds: Iterable[Threshold]) -> None:
        """Replace the thresholds, for every thread from its next consumption on; an empty list turns warnings off.

        `InvalidThresholdError` when a percent is outside 1 to 100 or given twice.
        """
        self._calls.set_thresholds(no_more_than_percents(thresholds))

    def get_budget(self, thread_id: str) -> ThreadBudget:
        """A live view of a thread's budget; the thread is created when it does not exist."""
        with self._calls.instance.lock:
            return self._known(thread_id) or self._budget(thread_id, self._calls.get_budget(thread_id))

    def open_thread(self, thread_id: str, *, max_tokens: int | None = None, parent: str | None = None) -> ThreadBudget:
        """Create a thread with a limit of its own, or below a parent, or both. What it uses and holds counts in its
        ancestors too, and a check asks all of them.

        A thread that exists is returned when it has what is asked for, else it is an `OptionsDifferError`. Other
        errors: `UnknownParentError`, `ParentCycleError`, `TooDeepError`.
        """
        with self._calls.instance.lock:
            resource = self._calls.open_thread(thread_id, ThreadOptions(max_tokens, parent))
            self._has_trees |= parent is not None
            return self._budget(thread_id, resource)

    def check_budget(self, thread_id: str, estimated_tokens: int = 0) -> bool:
        """Ask, before an LLM call, whether the thread may use so many tokens more. The answer is True, or an error:

        `BudgetExhaustedError` when it is used up, or when the estimate does not fit, here or in an ancestor.
        """
        self._calls.check_budget(thread_id, estimated_tokens)
        return True

    def consume(self, thread_id: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> Consumption:
        """Record, after an LLM call, what it used. An overshoot is recorded too."""
        with self._calls.instance.lock:
            consumed = self._calls.consume(thread_id, prompt_tokens, completion_tokens)
            return Consumption(self._budget(thread_id), consumed)

    def record_response(self, thread_id: str, response: object) -> Consumption:
        """`consume` what a response of the `openai` or `anthropic` package says it used.

        Anthropic's cached input tokens count as prompt tokens. ``ValueError`` for a response without usage.
        """
        return self.consume(thread_id, *tokens_of(response))

    def consume_batch(self, entries: Iterable[UsageEntry]) -> list[BudgetThresholdCrossed]:
        """Record several in one call, in their order: all of them, or none when an error is raised.

        `BatchTooLargeError` past 4,096 entries or 128 KiB of thread ids.
        """
        entries = list(entries)
        if len(entries) > _MAX_BATCH:
            raise BatchTooLargeError(_MAX_BATCH)
        if sum(map(_bytes, entries)) > _MAX_ARGUMENT_BYTES + _RECORD * len(entries):
            raise BatchTooLargeError(_MAX_ARGUMENT_BYTES)
        crossed: list[BudgetThresholdCrossed] = self._calls.consume_batch(entries)
        return crossed

    def hold(
        self,
        thread_id: str,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        least_completion_tokens: int | None = None,
        request_id: str | None = None,
        holder: int = 0,
        deadline: int = 0,
    ) -> Hold:
        """Check as `check_budget` does, and hold the tokens, so that concurrent calls cannot pass the same check.

        >>> with registry.hold("agent-7", 800, 1_000, least_completion_tokens=100) as hold:  # doctest: +SKIP
        ...     hold.sent()
        ...     response = model(prompt, max_tokens=hold.completion_tokens)
        ...     hold.settle(response.prompt_tokens, response.completion_tokens)

        What does not fit of the completion is cut down, but not below ``least_completion_tokens``, which is all of it
        when None. Without a ``request_id`` one is made up. With one, the thread remembers what was settled for it, and
        the same request is `repeated` later. ``holder`` and ``deadline`` are the caller's, and only handed back by
        `snapshot`.

        `BudgetExhaustedError` when prompt and least completion do not fit, here or in an ancestor.
        """
        remember = request_id is not None
        return Hold(
            self._calls,
            self._lost_calls,
            remember,
            thread_id,
            str(uuid.uuid4()) if request_id is None else request_id,
            prompt_tokens,
            completion_tokens,
            least_completion_tokens,
            holder,
            deadline,
        )

    def acknowledge_warnings(
        self, thread_id: str, warnings: Iterable[BudgetWarning | Acknowledgement | BudgetThresholdCrossed]
    ) -> None:
        """The agent has these warnings: they are no longer pending. What is not pending under the limit of now is
        passed over.
        """
        self._calls.acknowledge_warnings(thread_id, no_more_than_percents(warnings))

    def get_all_usage(self) -> dict[str, Usage]:
        """Every thread's usage, ascending by thread id (byte order)."""
        return dict(self._calls.get_all_usage())

    def reset_thread(self, thread_id: str) -> None:
        """Forget the thread: its next use starts from zero. One that was opened starts from zero in its place."""
        with self._calls.instance.lock:
            self._forget(self._of(thread_id), self._calls.reset_thread, thread_id)

    def cleanup_thread(self, thread_id: str) -> ThreadBudget | None:
        """Forget the thread, and every thread below it, and return its final budget; None when it does not exist."""
        with self._calls.instance.lock:
            known = self._known(thread_id)
            budgets = self._all() if self._has_trees else self._of(thread_id)
            final: FinalBudget | None = self._forget(budgets, self._calls.cleanup_thread, thread_id)
            if final is None:
                return None
            return known if known is not None and known.keep() else ThreadBudget.of_final(thread_id, final)

    def clear(self) -> None:
        """Forget every thread, and all that is held. The limit, the thresholds and the thread limit stay."""
        with self._calls.instance.lock:
            self._forget(self._all(), self._calls.clear)

    def snapshot(self, after: str | None = None, limit: int = 256) -> list[ThreadState]:
        """The states of up to ``limit`` threads: those after the thread ``after``, or the first ones.

        Parents come before their children. A page may be shorter than asked for; an empty one is the end. Settings are
        not in it.
        """
        states: list[ThreadState] = self._calls.snapshot(after, limit)
        return states

    def restore(self, states: Iterable[ThreadState]) -> None:
        """Bring threads back, all of them, or none when an error is raised. Restore pages in the order they were taken.

        `InvalidStateError` when a state contradicts itself, its thread exists, or a page of several has more than 128
        KiB.
        """
        states = list(states)
        if len(states) > 1 and sum(map(_bytes, states)) > _MAX_ARGUMENT_BYTES:
            raise InvalidStateError(f"a page of more than {_MAX_ARGUMENT_BYTES:,} bytes; restore it in parts, in order")
        self._calls.restore(states)
        self._has_trees = True

    def _known(self, thread_id: str) -> ThreadBudget | None:
        """The budget of a thread, if somebody has it."""
        reference = self._budgets.get(thread_id) if isinstance(thread_id, str) else None
        return None if reference is None else reference()

    def _budget(self, thread_id: str, resource: Resource | None = None) -> ThreadBudget:
        """The one budget of a thread that exists, which somebody may have already."""
        reference = self._budgets.get(thread_id)
        budget = None if reference is None else reference()
        if budget is None:
            budget = ThreadBudget.of_thread(self._calls, thread_id, resource)
            if len(self._budgets) >= self._too_many:
                self._budgets = {name: known for name, known in list(self._budgets.items()) if known() is not None}
                self._too_many = 2 * len(self._budgets) + _FEW
            self._budgets[thread_id] = ref(budget)
        return budget

    def _of(self, thread_id: str) -> list[ThreadBudget]:
        known = self._known(thread_id)
        return [] if known is None else [known]

    def _all(self) -> list[ThreadBudget]:
        """All budgets that somebody has."""
        return [budget for known in list(self._budgets.values()) if (budget := known()) is not None]

    def _forget(self, budgets: list[ThreadBudget], call: Callable[..., Any], *arguments: Any) -> Any:
        """Make a call that may forget the threads of these budgets. Each stays on what is forgotten."""
        kept = {budget for budget in budgets if budget.keep()}
        answer = call(*arguments)
        for budget in budgets:
            if budget not in kept or budget.is_detached:
                self._budgets.pop(budget.thread_id, None)
        return answer


def _bytes(value: object) -> int:
    """About what a value takes in the component's memory; more rather than less."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    if isinstance(value, Mapping):
        return _RECORD + sum(map(_bytes, value.values()))
    if is_dataclass(value):
        return _RECORD + sum(_bytes(getattr(value, field.name)) for field in fields(value))
    return 0


_of_process: dict[str, ThreadBudgetRegistry] = {}


def get_budget_registry() -> ThreadBudgetRegistry:
    """The registry of this process, made at its first use."""
    # No lock, which a forked child might inherit locked: of two that are made at once, the first is taken.
    return _of_process.get("registry") or _of_process.setdefault("registry", ThreadBudgetRegistry())


def configure_budget_registry(max_tokens_per_thread: int) -> ThreadBudgetRegistry:
    """Set the limit of new threads in the registry of this process, and return it. Threads that exist keep theirs."""
    registry = get_budget_registry()
    registry.configure(max_tokens_per_thread)
    return registry


def reset_budget_registry() -> None:
    """Clear the registry of this process and let go of it; its next use makes a new one."""
    registry = _of_process.pop("registry", None)
    if registry is not None:
        with contextlib.suppress(RegistryLostError, ForkedError):
            registry.clear()
