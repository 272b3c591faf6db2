"""What the calls of a registry raise.

An error of the contract has a class here; each keeps its figures as attributes, and can be pickled. Nothing has changed
when one is raised, except that a refused check creates its thread, as every check does. The registry stays usable after
all of them but `RegistryLostError`.
"""

from __future__ import annotations

from typing import Any


class ThreadBudgetError(Exception):
    """What every error of this package is."""


class BudgetExhaustedError(ThreadBudgetError):
    """The budget is used up, or the estimate does not fit. Ask for less, or end the thread."""

    def __init__(self, thread_id: str, used: int, max_tokens: int, requested: int = 0) -> None:
        super().__init__(thread_id, used, max_tokens, requested)
        self.thread_id = thread_id
        """The thread that has no room: the one that was checked, or an ancestor of it."""
        self.used = used
        """Total tokens used so far. What reservations hold is not among them."""
        self.max_tokens = max_tokens
        """The thread's limit, in tokens."""
        self.requested = requested
        """The estimate that was asked for, in tokens."""

    def __str__(self) -> str:
        used = f"thread {self.thread_id}: {self.used:,} of {self.max_tokens:,} tokens are used"
        return f"{used}, a request of {self.requested:,} does not fit" if self.requested else used


class InvalidThreadIdError(ThreadBudgetError, ValueError):
    """A thread id is 1 to 1,024 bytes of UTF-8."""


class InvalidRequestIdError(ThreadBudgetError, ValueError):
    """A request id is 1 to 256 bytes of UTF-8."""


class InvalidThresholdError(ThreadBudgetError, ValueError):
    """A threshold's percent is 1 to 100, and given once."""

    def __init__(self, percent: int) -> None:
        super().__init__(percent)
        self.percent = percent
        """The percent that is not."""

    def __str__(self) -> str:
        return f"threshold {self.percent} %: a percent is 1 to 100 and given once"


class InvalidStateError(ThreadBudgetError, ValueError):
    """A thread's state that no snapshot can have given, or that does not fit here; the text says which and why."""


class TooManyThreadsError(ThreadBudgetError):
    """The thread is new and the registry has as many as it may. Clean up a thread first."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit
        """The most threads there may be."""

    def __str__(self) -> str:
        return f"there are already {self.limit:,} threads, the most there may be; clean up a thread first"


class RegistryMemoryError(ThreadBudgetError, MemoryError):
    """The memory granted to the registry is used up. Threads that exist go on working."""

    def __init__(self, _payload: None = None) -> None:
        super().__init__()

    def __str__(self) -> str:
        return "the registry's memory is used up; clean up threads or raise memory_limit"


class UnknownParentError(ThreadBudgetError, LookupError):
    """The parent asked for does not exist. Open it first."""

    def __init__(self, parent: str) -> None:
        super().__init__(parent)
        self.parent = parent
        """The parent asked for."""

    def __str__(self) -> str:
        return f"the parent {self.parent} does not exist; open it first"


class ParentCycleError(ThreadBudgetError, ValueError):
    """The parent asked for is the thread itself or below it."""

    def __init__(self, parent: str) -> None:
        super().__init__(parent)
        self.parent = parent
        """The parent asked for."""

    def __str__(self) -> str:
        return f"the parent {self.parent} is the thread itself or below it"


class TooDeepError(ThreadBudgetError, ValueError):
    """The line of threads, each the parent of the next, would get too long."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit
        """The most threads of a line."""

    def __str__(self) -> str:
        return f"a line of threads, each the parent of the next, has at most {self.limit}"


class OptionsDifferError(ThreadBudgetError, ValueError):
    """The thread exists with another limit or parent than asked for. Clean it up first."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(thread_id)
        self.thread_id = thread_id
        """The thread."""

    def __str__(self) -> str:
        return f"thread {self.thread_id} exists with another limit or parent; clean it up first"


class BatchTooLargeError(ThreadBudgetError, ValueError):
    """A batch has at most 4,096 entries, with at most 128 KiB of thread ids together. Send several."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit
        """The most entries, or the most bytes of thread ids."""

    def __str__(self) -> str:
        return f"the batch has more entries or bytes of thread ids than {self.limit:,}; send several"


class LoadError(ThreadBudgetError):
    """The component cannot be used."""


class RegistryLostError(ThreadBudgetError):
    """The component trapped, now or in an earlier call, so that its state cannot be trusted: make a new registry."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        """wasmtime's account of the trap."""

    def __str__(self) -> str:
        return (
            "the component trapped and the registry is lost; make a new one, and restore its last "
            f"snapshot if there is one ({self.reason})"
        )


_CASES: dict[str, type[ThreadBudgetError]] = {
    "invalid-thread-id": InvalidThreadIdError,
    "too-many-threads": TooManyThreadsError,
    "invalid-threshold": InvalidThresholdError,
    "out-of-memory": RegistryMemoryError,
    "unknown-parent": UnknownParentError,
    "parent-cycle": ParentCycleError,
    "too-deep": TooDeepError,
    "options-differ": OptionsDifferError,
    "invalid-request-id": InvalidRequestIdError,
    "batch-too-large": BatchTooLargeError,
    "invalid-state": InvalidStateError,
}


def from_contract(case: str, payload: Any) -> ThreadBudgetError:
    """The error for a case of the contract's `registry-error`."""
    if isinstance(payload, BudgetExhaustedError):
        return payload
    return _CASES[case](payload)
