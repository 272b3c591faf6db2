"""The registry, as exchanges use it: budgets, and what exchanges have in common beside those, idempotency keys
and holds that stay when their exchange is over.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from ._instance import Calls
from .contract import Consumed, Held, ThreadOptions
from .errors import ContractError, ThreadBudgetError
from .hold import LostCalls
from .registry import ThreadBudgetRegistry

_log = logging.getLogger("thread_budget")

#: How many keys are remembered, the latest, and how long, in seconds.
_MOST_KEYS = 1 << 16
_LIFETIME = 24 * 60 * 60

#: The most holds that stay at a time. One more is charged at once.
_MOST_STAYS = 1 << 14


@dataclass
class _Key:
    body: bytes
    """The hash of the body that it was claimed for."""
    since: float
    is_in_flight: bool = False


class Desk:
    """One for each registry. The registry's lock, which is a new one after a fork, guards it."""

    def __init__(self, calls: Calls, lost_calls: LostCalls) -> None:
        self.calls = calls
        self.lost_calls = lost_calls
        # In the order in which they were first claimed.
        self._keys: OrderedDict[bytes, _Key] = OrderedDict()
        # By the provider's names of the responses: what stays, and until when.
        self._stays: dict[str, tuple[Any, float]] = {}

    # -- budgets

    def hold(self, asked: Any) -> Held:
        """Open threads and hold, or change what is held."""
        with self.calls.instance.lock:
            for opening in asked.open:
                self._open(opening.thread_id, opening.options)
            held: Held = self.calls.hold(
                asked.thread_id,
                asked.request_id,
                asked.prompt_tokens,
                asked.completion_tokens,
                asked.least_completion_tokens,
                0,
                0,
            )
            return held

    def _open(self, thread_id: str, options: ThreadOptions) -> None:
        """Open a thread, unless it exists. One that exists below another parent is not the one that is meant; its limit
        may be another one since somebody has set it.
        """
        if not self.calls.has_budget(thread_id):
            self.calls.open_thread(thread_id, options)
        elif options.parent is not None:
            self.calls.open_thread(thread_id, ThreadOptions(None, options.parent))

    def settle(self, thread_id: str, request_id: str, prompt: int, completion: int, remember: bool) -> Consumed:
        """Count what was used in the place of what is held."""
        consumed: Consumed = self.calls.settle(thread_id, request_id, prompt, completion, remember)
        return consumed

    def release(self, thread_id: str, request_id: str) -> None:
        """Let go of what is held. A registry that is lost has lost that, too."""
        with _logged():
            self.calls.release(thread_id, request_id)

    def acknowledge(self, thread_id: str, warnings: Any) -> None:
        """The agent has these warnings."""
        with _logged():
            self.calls.acknowledge_warnings(thread_id, warnings)

    # -- idempotency keys

    def claim(self, key: str, body: bytes) -> str | None:
        """Claim an idempotency key for a request with that body, until it is given back; or say why not."""
        name, hashed, now = _hash(key.encode()), _hash(body), time.monotonic()
        with self.calls.instance.lock:
            self._forget(now)
            known = self._keys.setdefault(name, _Key(hashed, now))
            if known.body != hashed:
                return "other-body"
            if known.is_in_flight:
                return "in-flight"
            known.is_in_flight = True
            return None

    def give_back(self, key: str) -> None:
        """The exchange that claimed the key is over."""
        with self.calls.instance.lock:
            self._keys[_hash(key.encode())].is_in_flight = False

    def _forget(self, now: float) -> None:
        """Forget keys that are old, and the oldest of too many, but none that is in flight."""
        for _ in range(len(self._keys)):
            name, key = next(iter(self._keys.items()))
            if len(self._keys) < _MOST_KEYS and now - key.since < _LIFETIME:
                return
            if key.is_in_flight:
                key.since = now
                self._keys.move_to_end(name)
            else:
                del self._keys[name]

    # -- holds that stay

    def keep(self, kept: Any) -> None:
        """A hold stays, as nobody's own, until its time is over. Where it cannot, or another of its name cannot, it is
        charged.
        """
        with self.calls.instance.lock:
            before, _ = self._stays.pop(kept.name, (None, 0))
            if before is not None:
                self._charge(before)
            if len(self._stays) < _MOST_STAYS:
                self._stays[kept.name] = kept, time.monotonic() + kept.for_ms / 1_000
            else:
                self._charge(kept)

    def recall(self, name: str) -> Any:
        """What was kept by that name, or None."""
        with self.calls.instance.lock:
            kept, _ = self._stays.get(name, (None, 0))
            return kept

    def ended(self, kept: Any) -> None:
        """An exchange has ended the hold that it recalled."""
        with self.calls.instance.lock:
            if self.recall(kept.name) is kept:
                del self._stays[kept.name]

    def charge_overdue(self) -> None:
        """Charge the holds whose time is over, as whoever begins an exchange does."""
        if not self._stays:
            return
        now = time.monotonic()
        with self.calls.instance.lock:
            for name in [name for name, (_, until) in self._stays.items() if until <= now]:
                kept, _ = self._stays.pop(name)
                self._charge(kept)

    def _charge(self, kept: Any) -> None:
        # Its thread may be gone, and all its ancestors.
        with _logged(), contextlib.suppress(ContractError):
            hold = kept.hold
            self.calls.settle(hold.thread_id, hold.request_id, kept.prompt_tokens, kept.completion_tokens, False)


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@contextlib.contextmanager
def _logged() -> Any:
    """What goes wrong here is for the log: nobody waits for it."""
    try:
        yield
    except ThreadBudgetError as error:
        _log.error("%s", error)


_desks: WeakKeyDictionary[ThreadBudgetRegistry, Desk] = WeakKeyDictionary()


def desk_of(registry: ThreadBudgetRegistry) -> Desk:
    """The registry's."""
    # Of two that are made at once, the first is taken.
    return _desks.get(registry) or _desks.setdefault(registry, Desk(registry._calls, registry._lost_calls))
