"""The values that go into a registry and come out of it, named as in the contract. Token counts are whole tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, NamedTuple

from ._instance import Instance, built_in_component
from .errors import BudgetExhaustedError


class Severity(str, Enum):
    """How urgent a crossed threshold is. It compares equal to its name."""

    WARNING = "warning"
    """Early: plan the rest of the work."""
    CRITICAL = "critical"
    """Soon: finish the current step, summarise or escalate."""
    FINAL = "final"
    """Last chance: save state and answer now, the next request may be refused."""

    __str__ = str.__str__


@dataclass(frozen=True, slots=True)
class Threshold:
    """A share of the limit at which a thread is warned, once."""

    percent: int
    """Whole percent of the thread's limit, 1 to 100."""
    severity: Severity
    """What the warning will be called."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one thread has consumed, at the moment of the call."""

    prompt_tokens: int
    """Prompt (input) tokens, summed over all requests."""
    completion_tokens: int
    """Completion (output) tokens, summed over all requests."""
    total_tokens: int
    """Both together. It may pass `max_tokens`: what was used is recorded."""
    remaining: int
    """Tokens left before the limit; 0 once it is reached or passed."""
    max_tokens: int
    """The thread's limit."""
    request_count: int
    """How many times consumption was recorded."""


@dataclass(frozen=True, slots=True)
class ThresholdCrossed:
    """A threshold that a call crossed. Each is reported once per thread, and again when `set_limit` re-armed it."""

    thread_id: str
    """The thread whose threshold was crossed: the one that consumed, or an ancestor of it."""
    threshold_percent: int
    """The threshold, whole percent."""
    severity: Severity
    """How urgent it is."""
    percent_used: float
    """Percent used after the call, rounded to one decimal as `round` does. It may pass 100."""
    tokens_used: int
    """Total tokens used after the call."""
    tokens_remaining: int
    """Tokens left after the call."""
    max_tokens: int
    """The thread's limit."""


@dataclass(frozen=True, slots=True)
class BudgetWarning:
    """What an agent reads when its thread crossed a threshold."""

    percent_used: float
    """Percent used, rounded to one decimal."""
    tokens_used: int
    """Total tokens used."""
    tokens_remaining: int
    """Tokens left before the thread is refused."""
    max_tokens: int
    """The thread's limit."""
    severity: Severity
    """How urgent it is."""
    message: str
    """English, for the agent. It starts with ``Note:``, ``WARNING:`` or ``CRITICAL:``."""

    @classmethod
    def from_threshold(cls, crossed: ThresholdCrossed) -> BudgetWarning:
        """The warning for a crossed threshold."""
        warning: BudgetWarning = _for_warnings().ask("budget-warning", crossed)
        return warning


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """One entry of a batch: what one request of a thread used."""

    thread_id: str
    """The thread; created when it does not exist."""
    prompt_tokens: int
    """Prompt tokens."""
    completion_tokens: int
    """Completion tokens."""


@dataclass(frozen=True, slots=True)
class FinalBudget:
    """The last word on a thread that was cleaned up, for logging and billing."""

    usage: Usage
    """The thread's usage at the end."""
    percent_used: float
    """Percent used, not rounded; 0 when the limit is 0."""
    triggered_thresholds: list[int]
    """Every threshold the thread crossed and `set_limit` did not re-arm, percent, ascending."""


@dataclass(frozen=True, slots=True)
class ThreadState:
    """Everything about one thread but its holds. `dataclasses.asdict` makes it fit for JSON, `from_dict` reads that."""

    thread_id: str
    """The thread's id."""
    parent: str | None
    """Its parent's id, if it has one. It must exist when the state is restored."""
    opened: bool
    """Whether `open_thread` or `set_limit` gave it a limit or a parent, which it keeps over a reset."""
    max_tokens: int
    """Its limit."""
    prompt_tokens: int
    """Prompt tokens, summed over all requests."""
    completion_tokens: int
    """Completion tokens, summed over all requests."""
    request_count: int
    """How many times consumption was recorded."""
    triggered_thresholds: list[int]
    """The thresholds crossed so far, percent, ascending."""
    undelivered_thresholds: list[Threshold]
    """Those of them that `take_warnings` has not handed out, ascending."""
    request_ids: list[str]
    """The request ids that `consume_once` remembers, oldest first; at most 64."""

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> ThreadState:
        """The state that `dataclasses.asdict` made this of."""
        undelivered = [Threshold(**threshold) for threshold in state["undelivered_thresholds"]]
        return cls(**{**state, "undelivered_thresholds": undelivered})


class Recorded(NamedTuple):
    """The contract's `consumed`."""

    usage: Usage
    crossed: list[ThresholdCrossed]
    repeated: bool


@dataclass(frozen=True, slots=True)
class ThreadOptions:
    """The contract's `thread-options`."""

    max_tokens: int | None
    parent: str | None


def _contract_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name.replace("_", "-") for field in fields(cls))


#: What the values of the contract are in Python, by their fields or cases.
CLASSES: dict[tuple[str, ...], Callable[..., Any]] = {
    tuple(severity.value for severity in Severity): Severity,
    ("thread-id", "used", "max-tokens", "requested"): BudgetExhaustedError,
    ("usage", "crossed", "repeated"): Recorded,
    **{
        _contract_names(cls): cls
        for cls in (
            Threshold,
            Usage,
            ThresholdCrossed,
            BudgetWarning,
            UsageEntry,
            FinalBudget,
            ThreadState,
            ThreadOptions,
        )
    },
}


@functools.cache
def _for_warnings() -> Instance:
    """An instance for the function that reads its argument only."""
    return Instance(built_in_component(), CLASSES)
