"""Transports for httpx and for httpx2, which has the same classes: they move the bytes of exchanges.

What a transport does is written once, as coroutines. Those of a transport that blocks wait for nothing, so that they
can be run at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import anyio

from ._exchange import Exchange
from ._exchanges import Exchanges
from .registry import ThreadBudgetRegistry

T = TypeVar("T")

#: What the library calls the times that it takes, in its requests' extensions.
_Timeouts = dict[str, "float | None"]


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a transport that blocks does not wait")


class _Blocking:
    """What waits in a transport that blocks."""

    async def read(self, request: Any) -> bytes:
        body: bytes = request.read()
        return body

    async def send(self, transport: Any, request: Any) -> Any:
        return transport.handle_request(request)

    def pieces(self, answer: Any) -> Any:
        return iter(answer.stream)

    async def next(self, pieces: Any) -> bytes | None:
        return next(pieces, None)

    async def close(self, answer: Any) -> None:
        answer.stream.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Waiting:
    """What waits in a transport that does not block."""

    async def read(self, request: Any) -> bytes:
        body: bytes = await request.aread()
        return body

    async def send(self, transport: Any, request: Any) -> Any:
        return await transport.handle_async_request(request)

    def pieces(self, answer: Any) -> Any:
        return aiter(answer.stream)

    async def next(self, pieces: Any) -> bytes | None:
        piece: bytes | None = await anext(pieces, None)
        return piece

    async def close(self, answer: Any) -> None:
        await answer.stream.aclose()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Call:
    """A client's request on its way: its exchange, and the latest answer of a provider."""

    def __init__(
        self, library: Any, io: _Blocking | _Waiting, transport: Any, request: Any, exchange: Exchange
    ) -> None:
        self.exchange = exchange
        self._library, self._io, self._transport, self._request = library, io, transport, request
        self._timeouts: _Timeouts = {}
        self._answer: Any = None
        self._pieces: Any = None
        """The answer's body, as far as it is to be read."""
        self._whole = b""
        """All of it, where that was wanted."""
        self._received = 0

    async def response(self, body: Any) -> Any:
        """What the client gets; `body` makes one of this call that is a stream."""
        exchange = self.exchange
        try:
            while exchange.wish != "done" and (exchange.response is None or exchange.response.kind != "pieces"):
                await self._carry_out()
        except BaseException:
            await self.close()
            raise
        made = exchange.response
        if made is None:
            raise self._library.RemoteProtocolError("the policy gives no response")
        is_stream = made.kind == "pieces" or (made.kind == "received" and self._pieces is not None)
        content = self._whole if made.body is None else made.body
        headers = made.headers if is_stream else [*made.headers, (b"content-length", b"%d" % len(content))]
        return self._library.Response(
            made.status,
            headers=headers,
            stream=body(self) if is_stream else self._library.ByteStream(content),
            extensions=self._answer.extensions if made.passed else {},
        )

    async def body(self) -> AsyncIterator[bytes]:
        """The body of a response that is a stream."""
        exchange = self.exchange
        if exchange.response is not None and exchange.response.kind == "received":
            # It is passed on, and not counted.
            while (piece := await self._io.next(self._pieces)) is not None:
                yield piece
            return
        while True:
            pieces, exchange.pieces = exchange.pieces, []
            for piece in pieces:
                yield piece
            if exchange.wish == "done":
                return
            await self._carry_out()

    async def close(self) -> None:
        """The client needs no more: what was used is counted, and the connection is given back or ended."""
        self.exchange.leave()
        await self._drop_answer()

    async def _drop_answer(self) -> None:
        answer, self._answer, self._pieces = self._answer, None, None
        if answer is not None:
            await self._io.close(answer)

    # -- what the policy wishes

    async def _carry_out(self) -> None:
        match self.exchange.wish:
            case "send":
                await self._send()
            case "read":
                await self._read(self.exchange.terms / 1_000)
            case "wait":
                await self._io.sleep(self.exchange.terms / 1_000)
                self.exchange.tell("woke")

    async def _send(self) -> None:
        await self._drop_answer()
        order = self.exchange.order()
        terms = order.terms
        head, idle = self._least("read", terms.head_ms), self._least("read", terms.idle_ms)
        self._timeouts = {
            "connect": self._least("connect", terms.connect_ms),
            "pool": self._least("pool", terms.connect_ms),
            "write": self._least("write", terms.head_ms),
            "read": head,
        }
        request = self._library.Request(
            self._request.method,
            order.url,
            headers=order.headers,
            content=order.body,
            extensions={**self._request.extensions, "timeout": self._timeouts},
        )
        self._received, self._whole = 0, b""
        by = time.monotonic() + terms.total_ms / 1_000
        try:
            self._answer = answer = await self._io.send(self._transport, request)
            # The library looks at it when it begins to read the body.
            self._timeouts["read"] = idle
            self._pieces = self._io.pieces(answer)
            whole = await self._gather(terms.most_bytes, by) if terms.whole else b""
        except self._library.TransportError as error:
            return self._failed(error)
        except _UnfitError as error:
            return self.exchange.failed(error.kind, self._received, error)
        if terms.whole:
            self._whole, self._pieces = whole, None
            await self._io.close(answer)
        return self.exchange.answered(answer.status_code, answer.headers.raw, whole)

    async def _gather(self, most: int, by: float) -> bytes:
        """All of an answer's body."""
        gathered = []
        while (piece := await self._io.next(self._pieces)) is not None:
            self._received += len(piece)
            if self._received > most:
                raise _UnfitError("too-long", f"the answer is longer than {most} bytes")
            if time.monotonic() > by:
                raise _UnfitError("slow", "the answer took too long")
            gathered.append(piece)
        return b"".join(gathered)

    async def _read(self, within: float) -> None:
        if within <= 0:
            return self.exchange.failed("slow", self._received, "the answer took too long")
        try:
            piece = await self._io.next(self._pieces)
            while piece == b"":
                piece = await self._io.next(self._pieces)
        except self._library.TransportError as error:
            return self._failed(error)
        if piece is None:
            return self.exchange.tell("ended")
        self._received += len(piece)
        return self.exchange.tell("piece", piece)

    def _failed(self, error: Exception) -> None:
        """There is no answer, or no more of it. Where it was the client's time that was over, it is gone."""
        library = self._library
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, (library.ReadTimeout, library.WriteTimeout)):
            name = "read" if isinstance(error, library.ReadTimeout) else "write"
            if self._timeouts[name] == self._client_timeouts.get(name):
                self.exchange.leave()
                raise error
            return self.exchange.failed("slow", self._received, reason)
        # Of these, nothing was sent.
        unsent = (library.ConnectError, library.ConnectTimeout, library.PoolTimeout, library.UnsupportedProtocol)
        return self.exchange.failed("unsent" if isinstance(error, unsent) else "lost", self._received, reason)

    @property
    def _client_timeouts(self) -> _Timeouts:
        timeouts: _Timeouts = self._request.extensions.get("timeout", {})
        return timeouts

    def _least(self, name: str, ms: int) -> float:
        """The shorter of the policy's time and the client's, in seconds."""
        client = self._client_timeouts.get(name)
        return ms / 1_000 if client is None else min(client, ms / 1_000)


class _UnfitError(Exception):
    """An answer is not read any further."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class BlockingBody:
    """The body of a response that is a stream. One that is forgotten is settled, too."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        pieces = self._call.body()
        while (piece := _at_once(anext(pieces, None))) is not None:
            yield piece

    def close(self) -> None:
        """The client needs no more."""
        _at_once(self._call.close())

    def __del__(self) -> None:
        self._call.exchange.leave()


class WaitingBody:
    """The body of a response that is a stream. One that is forgotten is settled, too."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._call.body():
            yield piece

    async def aclose(self) -> None:
        """The client needs no more."""
        await self._call.close()

    def __del__(self) -> None:
        self._call.exchange.leave()


class _Transport:
    """What both kinds of transports have in common."""

    _library: Any
    _body: Any
    """The body of a response that is a stream, as a stream of the library."""
    _default: Any
    """The transport of the library's that is used where none is given."""
    _io: Any

    def __init__(
        self,
        registry: ThreadBudgetRegistry,
        thread: str | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        transport: Any = None,
    ) -> None:
        self._exchanges = Exchanges(registry, thread, settings)
        self._transport = self._default() if transport is None else transport

    async def _handle(self, request: Any) -> Any:
        if not isinstance(request, self._library.Request):
            theirs = type(request).__module__.partition(".")[0]
            raise TypeError(f"the client is of {theirs}: give it the transport of thread_budget.{theirs}")
        url, io = request.url, self._io
        body = await io.read(request)
        origin, target = f"{url.scheme}://{url.netloc.decode()}", url.raw_path.decode()
        exchange = self._exchanges.begin(request.method, origin, target, request.headers.raw, body)
        return await _Call(self._library, io, self._transport, request, exchange).response(self._body)


class BlockingTransport(_Transport):
    """One for clients that block."""

    _io = _Blocking()

    def handle_request(self, request: Any) -> Any:
        """Answer a request."""
        return _at_once(self._handle(request))

    def close(self) -> None:
        """End the connections."""
        self._transport.close()


class WaitingTransport(_Transport):
    """One for clients that do not block."""

    _io = _Waiting()

    async def handle_async_request(self, request: Any) -> Any:
        """Answer a request."""
        return await self._handle(request)

    async def aclose(self) -> None:
        """End the connections."""
        await self._transport.aclose()
