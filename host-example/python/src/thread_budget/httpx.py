"""Budgets without a router, for clients built on httpx, as older versions of `openai` and `anthropic` are."""

from __future__ import annotations

import httpx

from . import _transport


class _Body(_transport.BlockingBody, httpx.SyncByteStream):
    pass


class _AsyncBody(_transport.WaitingBody, httpx.AsyncByteStream):
    pass


class BudgetTransport(_transport.BlockingTransport, httpx.BaseTransport):
    """Keeps the requests of a client of an LLM provider within the budgets of their threads.

    >>> OpenAI(http_client=httpx.Client(transport=BudgetTransport(registry, thread="agent-7")))  # doctest: +SKIP

    The thread is that of the request's header ``x-thread-id``, and else ``thread``; a request with neither is refused.
    What becomes of a request is decided as the router decides it, by the same component: the agent is warned in it, a
    request that does not fit is answered with an error, and a stream that uses the budget up is ended with one.
    ``settings`` are the router's settings. ``transport`` is what sends requests, httpx's own by default.
    """

    _library, _body, _default = httpx, _Body, httpx.HTTPTransport


class AsyncBudgetTransport(_transport.WaitingTransport, httpx.AsyncBaseTransport):
    """As `BudgetTransport`, for clients that do not block."""

    _library, _body, _default = httpx, _AsyncBody, httpx.AsyncHTTPTransport


__all__ = ["AsyncBudgetTransport", "BudgetTransport"]
