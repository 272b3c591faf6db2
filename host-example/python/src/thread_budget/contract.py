"""The records and calls of the contract. Written by `generate.py`, from `wit/`: do not edit."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict

from .errors import BudgetExhaustedError


class Severity(str, Enum):
    """How urgent a crossed threshold is. The agent decides what to do; the usual answers are named. It compares
    equal to its name.
    """

    WARNING = "warning"
    """Early: plan the rest of the work (75 % by default)."""
    CRITICAL = "critical"
    """Soon: finish the current step, summarise or escalate (90 % by default)."""
    FINAL = "final"
    """Last chance: save state and answer now, the next request may be refused (95 % by default)."""
    __str__ = str.__str__


@dataclass(slots=True)
class Threshold:
    """A share of the limit at which a thread is warned, once under a limit."""

    percent: int
    """Whole percent of the thread's limit, 1 to 100. It is reached when `total_tokens * 100 >= percent *
    max_tokens`, in exact integers.
    """
    severity: Severity
    """What the warning will be called."""


class Usage(TypedDict):
    """What one thread has consumed, at the moment of the call."""

    prompt_tokens: int
    """Prompt (input) tokens consumed, summed over all requests."""
    completion_tokens: int
    """Completion (output) tokens consumed, summed over all requests."""
    total_tokens: int
    """`prompt_tokens + completion_tokens`. It may pass `max_tokens`: what was used is recorded."""
    remaining: int
    """Tokens left before the limit; 0 once it is reached or passed."""
    max_tokens: int
    """The thread's limit in tokens: that of its creation, or of the latest `set_limit`."""
    request_count: int
    """How many times consumption was recorded, zero-token records included."""


@dataclass(slots=True)
class BudgetThresholdCrossed:
    """A threshold that this very call crossed. Each is reported once per thread, and again only when `set_limit` has
    re-armed it.
    """

    threshold_percent: int
    """The threshold, whole percent, 1 to 100."""
    severity: str
    """The severity that goes with the threshold."""
    percent_used: float
    """Percent used after the call, rounded to one decimal, exact ties to even (81.25 is 81.2). It passes 100 when
    the limit was overshot.
    """
    tokens_used: int
    """Total tokens used after the call."""
    tokens_remaining: int
    """Tokens left after the call, never below 0."""
    max_tokens: int
    """The thread's limit in tokens."""
    thread_id: str = field(default="", compare=False)
    """The thread whose threshold was crossed."""
    runway: int | None = field(default=None, compare=False)
    """How many requests like the latest ones still fit, see `BudgetWarning`."""


@dataclass(slots=True)
class BudgetWarning:
    """The payload an agent reads when its thread crossed a threshold, so that it can still summarise, escalate or
    save its state. Made by `budget_warning`, or read from `pending_warnings`.
    """

    percent_used: float
    """Percent used, rounded to one decimal."""
    tokens_used: int
    """Total tokens used."""
    tokens_remaining: int
    """Tokens left before the thread is refused."""
    max_tokens: int
    """The thread's limit in tokens. `acknowledge_warnings` names a warning by its percent and this."""
    severity: Severity
    """How urgent it is."""
    message: str
    """English, a sentence or three, for the agent: percent used as a whole number (ties to even) and tokens left
    with thousands separators. It starts with `Note:` (warning), `WARNING:` (critical) or `CRITICAL:` (final).
    """
    thread_id: str = field(default="", compare=False)
    """The thread whose threshold was crossed."""
    threshold_percent: int = field(default=0, compare=False)
    """The threshold, whole percent, 1 to 100."""
    runway: int | None = field(default=None, compare=False)
    """How many requests like the latest ones still fit: the thread's room (see `Held`) divided by the average tokens
    of its requests, rounded down. The average is 0 at first, the tokens of the first recorded request after that
    one, and then `(3 * average + tokens) / 4`, rounded up, after each request of the thread or of one below it.
    None while the average is 0.
    """


@dataclass(slots=True)
class Acknowledgement:
    """Names a pending warning that the agent has been given."""

    threshold_percent: int
    """The warning's threshold, whole percent, 1 to 100."""
    max_tokens: int
    """The limit that the warning named. Where `set_limit` has changed it since, the warning stays pending."""


@dataclass(slots=True)
class Held:
    """What a hold was granted, and where its thread stands."""

    completion_tokens: int
    """The completion tokens held: what was asked for, cut down to what is left, never below the least."""
    usage: Usage
    """The thread's usage, which a hold is no part of. Where the hold has moved to an ancestor, this and what follows
    is of that.
    """
    room: int
    """What the thread has left beside what is used and held, this hold included: the least of its own and that of
    all its ancestors, never below 0.
    """
    severity: Severity | None
    """The most urgent severity the thread has crossed under its limit, if any."""
    runway: int | None
    """How many requests like the latest ones still fit, see `BudgetWarning`: of the thread that the hold counts in."""
    pending: list[BudgetWarning]
    """The thread's pending warnings, as `pending_warnings` gives them."""
    repeated: bool
    """Whether the thread remembers the request: it was settled, and nothing is held."""


@dataclass(slots=True)
class Consumed:
    """What a recorded consumption led to, and where its thread stands."""

    usage: Usage
    """The thread's usage after the call. Where a hold of a thread that is gone was settled, this and what follows is
    of the ancestor that was charged.
    """
    room: int
    """What the thread has left beside what is used and held: the least of its own and that of all its ancestors,
    never below 0.
    """
    severity: Severity | None
    """The most urgent severity the thread has crossed under its limit, if any."""
    crossed: list[BudgetThresholdCrossed]
    """The thresholds this call crossed: the thread's own, ascending by percent, then those of its ancestors, nearest
    first. Mostly empty.
    """
    repeated: bool
    """Whether `settle` or `settle_lost` knew the request: nothing was counted then. False for other calls."""


@dataclass(slots=True)
class UsageEntry:
    """One entry of a batch: what one request of a thread used."""

    thread_id: str
    """The thread; created when it does not exist."""
    prompt_tokens: int
    """Prompt tokens."""
    completion_tokens: int
    """Completion tokens."""


@dataclass(slots=True)
class ThreadOptions:
    """What a thread is opened with."""

    max_tokens: int | None
    """Its own limit, in tokens; the registry's limit of that moment when none is given."""
    parent: str | None
    """An existing thread that what this one uses and holds counts against as well."""


@dataclass(slots=True)
class ThreadState:
    """Everything about one thread, for `snapshot` and `restore`."""

    thread_id: str
    """The thread's id."""
    birth: int
    """Tells it from other threads that had its id before or have it after, see `set_next_birth`."""
    parent: str | None
    """Its parent's id, if it has one. It must exist when the state is restored."""
    opened: bool
    """Whether `open_thread` or `set_limit` gave it a limit or a parent, which it keeps over a reset. A thread with a
    parent is opened.
    """
    max_tokens: int
    """Its limit, in tokens."""
    prompt_tokens: int
    """Prompt tokens, summed over all requests."""
    completion_tokens: int
    """Completion tokens, summed over all requests."""
    request_count: int
    """How many times consumption was recorded."""
    average_tokens: int
    """The average tokens of its requests, see `BudgetWarning.runway`."""
    triggered_thresholds: list[Threshold]
    """The thresholds crossed, with the severity they were crossed with, ascending. Each must be reached by the
    total.
    """
    pending_thresholds: list[int]
    """Those of them, percent, ascending, whose warnings are pending."""
    request_ids: list[str]
    """The request ids that it remembers, oldest first; at most 64, each once."""
    holds: list[HoldState]
    """What is held of it, in the order in which it was first held: at most 256 of its own, and 256 that moved to it."""
    lost: list[LostState]
    """The marks of requests it was charged for, oldest first; at most 64."""


@dataclass(slots=True)
class HoldState:
    """A hold."""

    made_for: str | None
    """The thread that it was made for, when that is gone and this is the ancestor it moved to."""
    request_id: str
    """Its request. No two holds of a thread id have the same."""
    prompt_tokens: int
    """Prompt tokens held."""
    completion_tokens: int
    """Completion tokens held."""
    completion_before: int
    """Completion tokens held before the latest increase, which a stream has surely had: 0 at first, and never more
    than what is held.
    """
    holder: int
    """Who made it, as `hold` was told."""
    deadline: int
    """Until when its holder answers for it, as `hold` was told."""


@dataclass(slots=True)
class LostState:
    """The mark of a request that was charged and may be settled once more: by `settle_lost`, or with `remember` when
    its thread was gone.
    """

    made_for: str | None
    """The thread that it was made for, when that is gone and this is the ancestor that was charged."""
    request_id: str
    """The request."""
    prompt_tokens: int
    """Prompt tokens charged."""
    completion_tokens: int
    """Completion tokens charged."""


@dataclass(slots=True)
class Changes:
    """What has changed, see `take_changes`."""

    changed: list[ThreadState]
    """The states of now of threads that have changed or are new, ascending by thread id (byte order)."""
    gone: list[str]
    """The ids of threads that were there and are there no longer, ascending; also of some that have come and gone
    meanwhile.
    """


@dataclass(slots=True)
class FinalBudget:
    """The last word on a thread that was cleaned up, for logging and billing."""

    usage: Usage
    """The thread's usage at the end."""
    percent_used: float
    """`total_tokens / max_tokens * 100`, not rounded; 0 when the limit is 0."""
    triggered_thresholds: list[int]
    """Every threshold the thread crossed and `set_limit` did not re-arm, percent, ascending."""


#: What the values of the contract are in Python, by their fields or cases.
CLASSES: dict[tuple[str, ...], Any] = {
    ("warning", "critical", "final"): Severity,
    ("percent", "severity"): Threshold,
    ("prompt-tokens", "completion-tokens", "total-tokens", "remaining", "max-tokens", "request-count"): Usage,
    (
        "thread-id",
        "threshold-percent",
        "severity",
        "percent-used",
        "tokens-used",
        "tokens-remaining",
        "max-tokens",
        "runway",
    ): BudgetThresholdCrossed,
    (
        "thread-id",
        "threshold-percent",
        "percent-used",
        "tokens-used",
        "tokens-remaining",
        "max-tokens",
        "runway",
        "severity",
        "message",
    ): BudgetWarning,
    ("threshold-percent", "max-tokens"): Acknowledgement,
    ("thread-id", "used", "held", "max-tokens", "requested"): BudgetExhaustedError,
    ("completion-tokens", "usage", "room", "severity", "runway", "pending", "repeated"): Held,
    ("usage", "room", "severity", "crossed", "repeated"): Consumed,
    ("thread-id", "prompt-tokens", "completion-tokens"): UsageEntry,
    ("max-tokens", "parent"): ThreadOptions,
    (
        "thread-id",
        "birth",
        "parent",
        "opened",
        "max-tokens",
        "prompt-tokens",
        "completion-tokens",
        "request-count",
        "average-tokens",
        "triggered-thresholds",
        "pending-thresholds",
        "request-ids",
        "holds",
        "lost",
    ): ThreadState,
    (
        "made-for",
        "request-id",
        "prompt-tokens",
        "completion-tokens",
        "completion-before",
        "holder",
        "deadline",
    ): HoldState,
    ("made-for", "request-id", "prompt-tokens", "completion-tokens"): LostState,
    ("changed", "gone"): Changes,
    ("usage", "percent-used", "triggered-thresholds"): FinalBudget,
}


class RegistryCalls:
    """The calls of the registry that are in Python what they are in the contract."""

    _calls: Any

    def configure(self, max_tokens_per_thread: int) -> None:
        """Set the limit, in tokens, of threads created from now on; threads that exist keep theirs, which
        `set_limit` changes. 0 makes every new thread exhausted from the start.
        """
        self._calls.configure(max_tokens_per_thread)

    @property
    def max_tokens_per_thread(self) -> int:
        """The limit, in tokens, that a new thread gets: 100,000 until `configure` is called."""
        answer: int = self._calls.max_tokens_per_thread()
        return answer

    @property
    def thresholds(self) -> list[Threshold]:
        """The thresholds in force, ascending by percent: 75 `warning`, 90 `critical`, 95 `final` until
        `set_thresholds` is called.
        """
        answer: list[Threshold] = self._calls.thresholds()
        return answer

    def set_max_threads(self, max_threads: int) -> None:
        """Set how many threads may exist; unlimited (2^32-1) until called. Threads beyond a lowered limit stay, only
        new ones are refused with `TooManyThreadsError`.
        """
        self._calls.set_max_threads(max_threads)

    def set_next_birth(self, birth: int) -> None:
        """The number that the next new thread's birth will be; it counts up by one for each. 1 until called, and
        always above every birth restored. Two hosts that share threads give seeds far apart.
        """
        self._calls.set_next_birth(birth)

    def settle(
        self, thread_id: str, request_id: str, prompt_tokens: int, completion_tokens: int, remember: bool = False
    ) -> Consumed:
        """Replace the request's hold by what was really used, more or less; an overshoot is recorded. Set `remember`
        where the same usage may be reported twice: the thread then keeps the request id among its latest 64.
        Where the hold has moved to an ancestor, that keeps a mark, as `settle_lost` leaves.

        Where there is a mark, only what is more than was charged is added, of prompt and completion each, and
        that is no further request; the mark goes, but one that is remembered for a thread that is gone stays,
        with the larger counts.

        Without hold or mark: `repeated` when the thread remembers the request; counted as `consume` counts, which
        creates the thread, when `remember` is set; else `UnknownHoldError`. A reset or cleanup forgets what a
        thread remembers.

        Errors: as `consume`, `InvalidRequestIdError`, `UnknownHoldError`; with `remember` `RegistryMemoryError`
        also for a thread that exists. A hold that is settled without `remember` never fails.
        """
        answer: Consumed = self._calls.settle(thread_id, request_id, prompt_tokens, completion_tokens, remember)
        return answer

    def settle_lost(self, thread_id: str, request_id: str, prompt_tokens: int, completion_tokens: int) -> Consumed:
        """Settle somebody else's hold, whose holder is gone, at what it may have used. It leaves a mark, of which a
        thread keeps its latest 64, so that a late `settle` of the owner adds what is more. A late `release`
        changes nothing. Should the owner hold again after all, its hold goes where the mark is; and should it be
        lost again, what is more than the mark says is added to both.

        `repeated` when nothing is held and the thread remembers the request or has its mark. Errors:
        `InvalidThreadIdError`, `InvalidRequestIdError`, `UnknownHoldError`. It never fails for a hold that is
        there.
        """
        answer: Consumed = self._calls.settle_lost(thread_id, request_id, prompt_tokens, completion_tokens)
        return answer

    def release(self, thread_id: str, request_id: str) -> bool:
        """Let go of the request's hold: nothing was sent. Says whether there was one."""
        answer: bool = self._calls.release(thread_id, request_id)
        return answer

    def set_limit(self, thread_id: str, max_tokens: int) -> Usage:
        """Give a thread another limit, in tokens, and return its usage under it; the thread is created when it does
        not exist. What it has used and holds, its request ids, its parent and its children stay, and so do
        handles on it and its ancestors' limits. From now on it counts as opened, so that a reset leaves it this
        limit.

        Below what is used the thread is exhausted. Thresholds that the total does not reach under the new limit
        are re-armed: they are no longer crossed and their warnings no longer pending, and when they are reached
        again they fire again. Those that it newly reaches fire with the next consumption. Under a limit of 0 none
        is reached.

        Errors: as `get_budget`.
        """
        answer: Usage = self._calls.set_limit(thread_id, max_tokens)
        return answer

    def pending_warnings(self, thread_id: str) -> list[BudgetWarning]:
        """The warnings for thresholds that the thread has crossed and nobody has acknowledged, ascending by percent,
        with the severity they were crossed with and the numbers of now. Empty when there are none or the thread
        does not exist. Nothing changes: a warning is pending until the agent has it.
        """
        answer: list[BudgetWarning] = self._calls.pending_warnings(thread_id)
        return answer

    def has_budget(self, thread_id: str) -> bool:
        """Whether the thread exists. Never creates it."""
        answer: bool = self._calls.has_budget(thread_id)
        return answer

    def get_usage(self, thread_id: str) -> Usage | None:
        """The thread's usage, or none when it does not exist. Never creates it."""
        answer: Usage | None = self._calls.get_usage(thread_id)
        return answer

    def held_tokens(self, thread_id: str) -> int:
        """Tokens held for requests in flight, of the thread and of those below it; 0 when it does not exist. Never
        creates it.
        """
        answer: int = self._calls.held_tokens(thread_id)
        return answer

    def take_changes(self, limit: int) -> Changes:
        """What has changed since this was called last, for a host that keeps the threads in a store too: after each
        call it writes what that has changed. The first call answers with nothing, and only from then on is
        anything noted: all that changes threads, but for what `restore` and `drop_tree` do. A thread that was
        touched and is as it was may be among them. Settings are the host's to keep.

        At most `limit` threads (and 4,096), fewer when memory is short, those that are gone last; an answer
        without any is the end. `RegistryMemoryError` when there was no room to note everything: what was noted is
        forgotten, and the host had better bring the threads back from where it keeps them.
        """
        answer: Changes = self._calls.take_changes(limit)
        return answer

    def drop_tree(self, thread_id: str) -> bool:
        """Take a thread, and all of the tree that it is in, out of the registry, with what is held and marked: they
        are kept elsewhere, and `restore` brings them back. Handles on them go on counting, detached, and what of
        them was noted for `take_changes` is forgotten. Says whether there was such a thread.
        """
        answer: bool = self._calls.drop_tree(thread_id)
        return answer

    def budget_warning(self, crossed: BudgetThresholdCrossed) -> BudgetWarning:
        """Turn a crossed threshold into the `BudgetWarning` for the agent of that thread. Pure: it reads its
        argument only, and every argument has an answer.
        """
        answer: BudgetWarning = self._calls.budget_warning(crossed)
        return answer


class ThreadBudgetCalls:
    """The calls of a budget that are in Python what they are in the contract."""

    _calls: Any
    _resource: Any

    @property
    def usage(self) -> Usage:
        """The usage of now."""
        answer: Usage = self._calls.thread_budget_usage(self._resource)
        return answer

    @property
    def percent_used(self) -> float:
        """`total_tokens / max_tokens * 100`, not rounded; 0 when the limit is 0. Passes 100 on overshoot."""
        answer: float = self._calls.thread_budget_percent_used(self._resource)
        return answer

    @property
    def is_exhausted(self) -> bool:
        """Whether the total has reached the limit. A limit of 0 is exhausted from the start."""
        answer: bool = self._calls.thread_budget_is_exhausted(self._resource)
        return answer

    @property
    def held_tokens(self) -> int:
        """Tokens held for requests in flight, of this thread and of those below it."""
        answer: int = self._calls.thread_budget_held_tokens(self._resource)
        return answer

    @property
    def is_detached(self) -> bool:
        """Whether the registry no longer counts this budget, after a reset, cleanup or clear."""
        answer: bool = self._calls.thread_budget_is_detached(self._resource)
        return answer

    def can_consume(self, estimated_tokens: int) -> bool:
        """Whether total + held + estimate stays within the limit, here and in every ancestor. Unlike `check_budget`
        it says yes to an estimate of 0 at exactly the limit.
        """
        answer: bool = self._calls.thread_budget_can_consume(self._resource, estimated_tokens)
        return answer
