"""What the calls of a registry raise.

An error of the contract has a class here; each keeps its figures as attributes, and can be pickled. Nothing has changed
when one is raised, except that a refused check creates its thread, as every check does. The registry stays usable after
all of them but `RegistryLostError` and `ForkedError`.
"""

from __future__ import annotations

import re


class ThreadBudgetError(Exception):
    """What every error of this package is."""


class ContractError(ThreadBudgetError):
    """What every error of the contract is."""

    case: str
    """The error's name in the contract."""

    def __init_subclass__(cls) -> None:
        if "case" not in vars(cls):
            cls.case = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__.removesuffix("Error")).lower()
        CASES[cls.case] = cls


#: The errors of the contract, by their names there.
CASES: dict[str, type[ContractError]] = {}


class BudgetExhaustedError(ContractError):
    """The budget is used up, or the estimate does not fit. Ask for less, or end the thread.

    Where ``used + requested`` would fit, what others hold is the reason, and that may pass.
    """

    case = "exhausted"

    def __init__(self, thread_id: str, used: int, max_tokens: int, held: int = 0, requested: int = 0) -> None:
        super().__init__(thread_id, used, max_tokens, held, requested)
        self.thread_id = thread_id
        """The thread that has no room: the one that was checked, or its nearest ancestor without room."""
        self.used = used
        """Total tokens used so far."""
        self.max_tokens = max_tokens
        """The thread's limit, in tokens."""
        self.held = held
        """Tokens held in that thread and below it, the hold that was to be changed apart."""
        self.requested = requested
        """What was asked for, in tokens: the estimate of a check; prompt and least completion of a hold."""

    def __str__(self) -> str:
        return f"Thread {self.thread_id[:8]}... budget exhausted: {self.used}/{self.max_tokens} tokens used"


class InvalidThreadIdError(ContractError, ValueError):
    """A thread id is 1 to 1,024 bytes of UTF-8."""


class InvalidRequestIdError(ContractError, ValueError):
    """A request id is 1 to 256 bytes of UTF-8."""


class InvalidThresholdError(ContractError, ValueError):
    """A threshold's percent is 1 to 100, and given once."""

    def __init__(self, percent: int) -> None:
        super().__init__(percent)
        self.percent = percent
        """The percent that is not."""

    def __str__(self) -> str:
        return f"threshold {self.percent} %: a percent is 1 to 100 and given once"


class InvalidStateError(ContractError, ValueError):
    """A thread's state that no snapshot can have given, or that does not fit here; the text says which and why."""


class TooManyThreadsError(ContractError):
    """The thread is new and the registry has as many as it may. Clean up a thread first."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit
        """The most threads there may be."""

    def __str__(self) -> str:
        return f"there are already {self.limit:,} threads, the most there may be; clean up a thread first"


class TooManyHoldsError(ContractError):
    """The thread has as many holds as it may. Settle or release some first."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit
        """The most holds of its own that a thread has."""

    def __str__(self) -> str:
        return f"the thread has {self.limit:,} holds, the most it may; settle or release some first"


class RegistryMemoryError(ContractError, MemoryError):
    """The memory granted to the registry is used up. Threads that exist go on working."""

    case = "out-of-memory"

    def __str__(self) -> str:
        return "the registry's memory is used up; clean up threads or raise memory_limit"


class UnknownParentError(ContractError, LookupError):
    """The parent asked for does not exist. Open it first."""

    def __init__(self, parent: str) -> None:
        super().__init__(parent)
        self.parent = parent
        """The parent asked for."""

    def __str__(self) -> str:
        return f"the parent {self.parent} does not exist; open it first"


class ParentCycleError(ContractError, ValueError):
    """The parent asked for is the thread itself or below it."""

    def __init__(self, parent: str) -> None:
        super().__init__(parent)
        self.parent = parent
        """The parent asked for."""

    def __str__(self) -> str:
        return f"the parent {self.parent} is the thread itself or below it"


class TooDeepError(ContractError, ValueError):
    """The line of threads, each the parent of the next, would get too long."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit
        """The most threads of a line."""

    def __str__(self) -> str:
        return f"a line of threads, each the parent of the next, has at most {self.limit}"


class OptionsDifferError(ContractError, ValueError):
    """The thread exists with another limit or parent than asked for. Clean it up first."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(thread_id)
        self.thread_id = thread_id
        """The thread."""

    def __str__(self) -> str:
        return f"thread {self.thread_id} exists with another limit or parent; clean it up first"


class UnknownHoldError(ContractError, LookupError):
    """Nothing is held for the request, and nothing was counted."""

    def __str__(self) -> str:
        return "nothing is held for that request: it was settled or released before, or its thread is gone"


class BatchTooLargeError(ContractError, ValueError):
    """A batch has at most 4,096 entries, with at most 128 KiB of thread ids together. Send several."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit
        """The most entries, or the most bytes of thread ids."""

    def __str__(self) -> str:
        return f"the batch has more entries or bytes of thread ids than {self.limit:,}; send several"


class LoadError(ThreadBudgetError):
    """The component cannot be used."""


class ForkedError(ThreadBudgetError):
    """The registry belongs to the process that this one was forked from. Make a new one here."""

    def __str__(self) -> str:
        return (
            "this registry belongs to the parent process, which goes on counting in it; make a new one in this process"
        )


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


class PolicyLostError(ThreadBudgetError):
    """The component that decides what becomes of a request trapped. The request fails; the next is not affected."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        """wasmtime's account of the trap."""

    def __str__(self) -> str:
        return f"the policy trapped, and decides nothing more of this request ({self.reason})"
