"""An exchange: a request to an LLM provider and its answer. The policy says what is to be done. What concerns the
registry is done here; the bytes are a transport's to move.
"""

from __future__ import annotations

import datetime
import logging
import os
import random
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ._desk import Desk
from ._instance import Calls
from .errors import ContractError, PolicyLostError, ThreadBudgetError

_log = logging.getLogger("thread_budget")

_LEVELS = {"info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

#: Headers as they are on the wire.
Headers = list[tuple[bytes, bytes]]

#: Headers that concern one connection, or the length of one message.
_HOP_BY_HOP = frozenset(
    b"connection content-length keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)


class Order(NamedTuple):
    """A request that the policy wants sent."""

    url: str
    headers: Headers
    body: bytes
    terms: Any
    """How it is sent and its answer read: the contract's `provider-request`."""


class Response(NamedTuple):
    """What the client gets."""

    status: int
    headers: Headers
    kind: str
    """`whole`: the body is here. `received`: it is that of the provider's answer. `pieces`: what the exchange gives."""
    body: bytes | None
    passed: bool
    """Whether it is the provider's answer, perhaps with other headers."""


@dataclass
class _Hold:
    """What the registry keeps for an attempt at a provider."""

    thread_id: str
    request_id: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    completion_before: int = 0
    """The completion tokens before the latest increase, which are used for sure."""
    is_sent: bool = False


class Exchange:
    """A request and its answer. `wish` says what a transport has to do; it tells what came of it."""

    def __init__(self, desk: Desk, policy: Calls, upstreams: list[Any], headers: Headers, body: bytes) -> None:
        self.wish: str = "done"
        """`send`, `read` or `wait`, until it is `done`."""
        self.terms: Any = None
        """What belongs to it."""
        self.response: Response | None = None
        """What the client gets, once that is decided."""
        self.pieces: list[bytes] = []
        """What is to be given now of a response that is a stream."""
        self._desk, self._policy, self._upstreams = desk, policy, upstreams
        self._headers, self._body = headers, body
        self._answer_headers: Headers = []
        self._hold: _Hold | None = None
        self._recalled: Any = None
        self._claimed: str | None = None

    # -- what a transport tells

    def begin(self, method: str, target: str, body: tuple[str, Any]) -> None:
        """The client's request. Its headers and its body are those that the exchange was made with."""
        self._desk.charge_overdue()
        request = {
            "id": uuid.uuid4().hex,
            "chance": random.getrandbits(64),
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "method": method,
            "target": target,
            "headers": _lines(self._headers),
            "body": body,
        }
        self.tell("request", request)

    def answered(self, status: int, headers: Headers, body: bytes) -> None:
        """A provider answers."""
        self._answer_headers = _forwarded(headers)
        self.tell("answer", {"status": status, "headers": _lines(self._answer_headers), "body": body})

    def failed(self, kind: str, received_bytes: int, reason: object) -> None:
        """There will be no answer, or no more of it."""
        self.tell("failed", {"kind": kind, "received_bytes": received_bytes, "reason": str(reason)})

    def tell(self, event: str, payload: Any = None) -> None:
        """Something has happened: do what is to be done here, until the policy wishes something of the transport."""
        came: tuple[str, Any] | None = (event, payload)
        while came is not None:
            try:
                turn = self._policy.step(time.monotonic_ns() // 1_000_000, came)
            except ThreadBudgetError:
                self._over()
                raise
            for action, what in turn.actions:
                self._act(action, what)
            self.wish, self.terms = turn.next
            came = self._here()
        if self.wish == "done":
            self._over()

    def leave(self) -> None:
        """The client is gone: what was used is counted, and what the policy still wishes of a transport is not done."""
        kind = "lost"
        try:
            while self.wish in ("send", "read", "wait"):
                self.tell("left")
                if self.wish == "resume":
                    self.failed(kind, 0, "the client has left")
                # Whatever is to be sent from now on is not.
                kind = "unsent"
        except ThreadBudgetError as error:
            _log.error("%s", error)
        self._over()

    def order(self) -> Order:
        """The request that is wished to be sent, and is on its way from now on."""
        terms = self.terms
        upstream = self._upstreams[terms.upstream]
        if urlsplit(terms.url)[:2] != urlsplit(upstream["url"])[:2]:
            raise PolicyLostError(f"it wants to send to {terms.url}, which is no upstream")
        put = _encoded(terms.set)
        if terms.key is not None:
            if terms.key.variable != upstream.get("key_env"):
                raise PolicyLostError(f"it wants a key that is not the upstream's: {terms.key.variable}")
            key = os.environ[terms.key.variable]
            put.append((terms.key.header.encode(), f"{terms.key.prefix}{key}".encode()))
        if self._hold is not None:
            self._hold.is_sent = True
        headers = _changed(_forwarded(self._headers), ["host", *terms.remove], put)
        return Order(terms.url, headers, self._body if terms.body is None else terms.body, terms)

    # -- what the policy wants done

    def _act(self, action: str, what: Any) -> None:
        """Do what is done at once."""
        match action:
            case "respond":
                passed = self._answer_headers if what.passed else []
                headers = _changed(passed, what.remove, _encoded(what.set))
                kind, body = what.body
                self.response = Response(what.status, headers, kind, body, what.passed)
            case "bytes":
                self.pieces.append(what)
            case "release":
                self._hold = None
                self._recall_ends(what.thread_id, what.request_id)
                self._desk.release(what.thread_id, what.request_id)
            case "keep":
                self._hold = None
                self._desk.keep(what)
            case "acknowledge":
                self._desk.acknowledge(what.thread_id, what.warnings)
            case "unidentified":
                _log.warning("%s: the request names no thread, so no budget applies to it", what)
            case "log":
                _log.log(_LEVELS[what.level], "%s", what.text)

    def _here(self) -> tuple[str, Any] | None:
        """What comes of a wish that is fulfilled here; None for those of the transport."""
        match self.wish:
            case "claim":
                conflict = self._desk.claim(self.terms, self._body)
                if conflict is not None:
                    return "not-claimed", conflict
                self._claimed = self.terms
                return "claimed", None
            case "recall":
                self._recalled = self._desk.recall(self.terms)
                return "recalled", self._recalled
            case "hold":
                return self._told(self._set_hold, "held", "not-held")
            case "settle":
                return self._told(self._settle, "settled", "not-settled")
        return None

    @staticmethod
    def _told(call: Any, done: str, refused: str) -> tuple[str, Any]:
        """What the registry says to a call."""
        try:
            return done, call()
        except ContractError as error:
            return refused, error
        except ThreadBudgetError as error:
            return "unavailable", str(error)

    def _set_hold(self) -> Any:
        asked, hold = self.terms, self._hold
        held = self._desk.hold(asked)
        if hold is None or (hold.thread_id, hold.request_id) != (asked.thread_id, asked.request_id):
            hold = _Hold(asked.thread_id, asked.request_id)
        # Whoever asks for more has used what there was.
        if asked.completion_tokens > hold.completion_tokens:
            hold.completion_before = hold.completion_tokens
        hold.prompt_tokens, hold.completion_tokens = asked.prompt_tokens, held.completion_tokens
        hold.completion_before = min(hold.completion_before, held.completion_tokens)
        self._hold = None if held.repeated else hold
        return held

    def _settle(self) -> Any:
        used = self.terms
        self._hold = None
        self._recall_ends(used.thread_id, used.request_id)
        return self._desk.settle(
            used.thread_id, used.request_id, used.prompt_tokens, used.completion_tokens, used.remember
        )

    def _recall_ends(self, thread_id: str, request_id: str) -> None:
        """The hold of that name ends; should it be the one that was recalled, it stays no longer."""
        kept = self._recalled
        if kept is not None and (kept.hold.thread_id, kept.hold.request_id) == (thread_id, request_id):
            self._desk.ended(kept)
            self._recalled = None

    def _over(self) -> None:
        """It is over. What is held although nothing was decided is settled as a lost call, or released if nothing was
        sent.
        """
        self.wish = "done"
        hold, self._hold = self._hold, None
        claimed, self._claimed = self._claimed, None
        if claimed is not None:
            self._desk.give_back(claimed)
        if hold is None:
            return
        if not hold.is_sent or self._desk.lost_calls == "nothing":
            self._desk.release(hold.thread_id, hold.request_id)
            return
        completion = hold.completion_tokens if self._desk.lost_calls == "all" else hold.completion_before
        self._told(
            lambda: self._desk.settle(hold.thread_id, hold.request_id, hold.prompt_tokens, completion, False), "", ""
        )


def _lines(headers: Headers) -> bytes:
    """Headers as the policy reads them, a line each."""
    # A line feed within a value, which no connection would take, begins no other header here.
    return b"".join(b"%s: %s\n" % (name, value.replace(b"\n", b" ")) for name, value in headers)


def _forwarded(headers: Headers) -> Headers:
    """Headers without those that concern one connection only."""
    named = {
        name.strip().lower()
        for header, value in headers
        if header.lower() == b"connection"
        for name in value.split(b",")
    }
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP | named]


def _encoded(headers: Iterable[Any]) -> Headers:
    return [(header.name.encode(), header.value.encode()) for header in headers]


def _changed(headers: Headers, remove: Iterable[str], put: Headers) -> Headers:
    """Headers without some, and with others in their place or as well."""
    gone = {name.encode() for name in remove} | {name for name, _ in put}
    return [(name, value) for name, value in headers if name.lower() not in gone] + put
