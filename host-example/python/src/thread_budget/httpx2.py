"""Budgets without a router, for clients built on httpx2, as the packages `openai` 3 and `anthropic` 2 are."""

from __future__ import annotations

import httpx2

from . import _transport


class _Body(_transport.BlockingBody, httpx2.SyncByteStream):
    pass


class _AsyncBody(_transport.WaitingBody, httpx2.AsyncByteStream):
    pass


class BudgetTransport(_transport.BlockingTransport, httpx2.BaseTransport):
    """Keeps the requests of a client of an LLM provider within the budgets of their threads.

    >>> OpenAI(http_client=httpx2.Client(transport=BudgetTransport(registry, thread="agent-7")))  # doctest: +SKIP

    The thread is that of the request's header ``x-thread-id``, and else ``thread``; a request with neither is refused.
    What becomes of a request is decided as the router decides it, by the same component: the agent is warned in it, a
    request that does not fit is answered with an error, and a stream that uses the budget up is ended with one.
    ``settings`` are the router's settings. ``transport`` is what sends requests, httpx2's own by default.
    """

    _library, _body, _default = httpx2, _Body, httpx2.HTTPTransport


class AsyncBudgetTransport(_transport.WaitingTransport, httpx2.AsyncBaseTransport):
    """As `BudgetTransport`, for clients that do not block."""

    _library, _body, _default = httpx2, _AsyncBody, httpx2.AsyncHTTPTransport


__all__ = ["AsyncBudgetTransport", "BudgetTransport"]
