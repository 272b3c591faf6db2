"""A hold on tokens, around the request that will use them."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any, Literal, get_args

from .contract import Consumed, Held
from .errors import UnknownHoldError

LostCalls = Literal["prompt", "all", "nothing"]
"""What a request costs that was sent and whose answer nobody knows: its prompt and every slice of its completion but
the latest, all that was held, or nothing. The slices are what was held first, and what each `Hold.grow` added.
"""


def check_lost_calls(lost_calls: LostCalls) -> LostCalls:
    """The rule, if it is one."""
    if lost_calls not in get_args(LostCalls):
        raise ValueError(f"lost_calls: expected one of {', '.join(get_args(LostCalls))}, not {lost_calls!r}")
    return lost_calls


class Hold:
    """Tokens held for a request in flight, until they are settled or released. A ``with`` block does one of the two.

    Left before `sent`, the hold is released. Left after it without `settle`, on an exception too, it is settled as a
    lost call, by the registry's ``lost_calls``; a late `settle` then adds only what is more. To forget a hold is to
    leave it.
    """

    def __init__(
        self,
        calls: Any,
        lost_calls: LostCalls,
        remember: bool,
        thread_id: str,
        request_id: str,
        prompt_tokens: int,
        completion_tokens: int,
        least_completion_tokens: int | None,
        holder: int,
        deadline: int,
    ) -> None:
        self.thread_id = thread_id
        """The thread that it was made for."""
        self.request_id = request_id
        """The request: the id that was given, or the one that was made up."""
        self.held: Held
        """What the registry answered last: the completion tokens held, and where the thread stands."""
        self._live = False
        self._sent = False
        self._earlier_slices = 0
        self._calls, self._lost_calls, self._remember = calls, lost_calls, remember
        self._prompt_tokens, self._holder, self._deadline = prompt_tokens, holder, deadline
        self._hold(completion_tokens, least_completion_tokens)

    def _hold(self, completion_tokens: int, least_completion_tokens: int | None) -> None:
        least = completion_tokens if least_completion_tokens is None else least_completion_tokens
        self.held = self._calls.hold(
            self.thread_id,
            self.request_id,
            self._prompt_tokens,
            completion_tokens,
            least,
            self._holder,
            self._deadline,
        )
        self._live = not self.held.repeated

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leave()

    def __del__(self) -> None:
        self._leave()

    @property
    def completion_tokens(self) -> int:
        """The completion tokens held: what the request may use."""
        return self.held.completion_tokens

    @property
    def repeated(self) -> bool:
        """Whether the thread remembers the request: it was settled, and nothing is held."""
        return self.held.repeated

    def grow(self, completion_tokens: int, least_completion_tokens: int | None = None) -> Held:
        """Hold another number of completion tokens, in all, with the same rules as at first. Less always fits.

        `BudgetExhaustedError` when more does not; the hold is then as it was.
        """
        before = self.held.completion_tokens
        self._hold(completion_tokens, least_completion_tokens)
        after = self.held.completion_tokens
        self._earlier_slices = before if after > before else min(self._earlier_slices, after)
        return self.held

    def sent(self) -> None:
        """The request goes out now: from here on it may cost something."""
        self._sent = True

    def settle(self, prompt_tokens: int, completion_tokens: int) -> Consumed:
        """Replace the hold by what was really used, more or less.

        The thread remembers a request id that was given, so that the same usage counts once. `UnknownHoldError` when
        nothing is held any more and the id was made up.
        """
        try:
            consumed: Consumed = self._calls.settle(
                self.thread_id, self.request_id, prompt_tokens, completion_tokens, self._remember
            )
        except UnknownHoldError:
            self._live = False
            raise
        self._live = False
        return consumed

    def release(self) -> bool:
        """Let go of the hold: nothing was sent. Says whether there was one."""
        self._live = False
        released: bool = self._calls.release(self.thread_id, self.request_id)
        return released

    def _leave(self) -> None:
        if not self._live or self._calls.instance.lost is not None:
            return
        if not self._sent or self._lost_calls == "nothing":
            self.release()
            return
        self._live = False
        completion_tokens = self.held.completion_tokens if self._lost_calls == "all" else self._earlier_slices
        with contextlib.suppress(UnknownHoldError):
            self._calls.settle_lost(self.thread_id, self.request_id, self._prompt_tokens, completion_tokens)
