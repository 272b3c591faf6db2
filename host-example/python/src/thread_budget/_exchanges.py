"""Where exchanges begin: the settings and the thread of a client, and the provider that it means."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ._desk import desk_of
from ._exchange import Exchange, Headers
from ._policy import Policy
from .registry import ThreadBudgetRegistry

#: The longest request and answer, in bytes, unless the settings say otherwise.
_MOST_BYTES = 32 << 20

#: How many providers' policies are kept.
_MOST_POLICIES = 16

#: A version begins the paths of an API.
_VERSIONED = re.compile(r"(.*?/v1)(/.*)?")


class Exchanges:
    """Those of a client."""

    def __init__(self, registry: ThreadBudgetRegistry, thread: str | None, settings: Mapping[str, Any] | None) -> None:
        self._registry, self._thread = registry, thread
        self._desk = desk_of(registry)
        self._settings: dict[str, Any] = {
            "unidentified": "refuse",
            "max_request_bytes": _MOST_BYTES,
            "max_response_bytes": _MOST_BYTES,
            **(settings or {}),
        }
        if taken := self._settings.keys() & {"thresholds", "lost_calls"}:
            raise ValueError(f"{' and '.join(sorted(taken))}: set this where the registry is made")
        if thread is not None and (not thread or thread != thread.strip() or not thread.isprintable()):
            raise ValueError(
                f"thread {thread!r}: a header names it, so it is some printable text without spaces around"
            )
        self._policies: dict[Any, Policy] = {}
        self._upstreams: list[dict[str, Any]] = self._settings.pop("upstreams", [])
        # What is wrong with the settings is said now.
        self._policy(self._upstreams or _upstreams("https://provider"))
        for upstream in self._upstreams:
            if (variable := upstream.get("key_env")) is not None and not os.environ.get(variable):
                raise ValueError(f"upstreams: the environment variable {variable} is to hold a key, and is not set")

    def begin(self, method: str, origin: str, target: str, headers: Headers, body: bytes) -> Exchange:
        """An exchange with the provider at that origin, such as ``https://api.openai.com``."""
        name = self._settings.get("thread_header", "x-thread-id").lower().encode()
        if self._thread is not None and not any(header.lower() == name for header, _ in headers):
            headers = [*headers, (name, self._thread.encode())]
        upstreams, target = self._place(origin, target)
        policy = self._policy(upstreams).begin()
        exchange = Exchange(self._desk, policy, upstreams, headers, body)
        is_too_long = len(body) > self._settings["max_request_bytes"]
        exchange.begin(method, target, ("too-long", None) if is_too_long else ("whole", body))
        return exchange

    def _place(self, origin: str, target: str) -> tuple[list[dict[str, Any]], str]:
        """The providers of a request, and its target as clients of a router write it, which begins with `/v1`."""
        if self._upstreams:
            base = self._upstreams[0]["url"].partition("?")[0].rstrip("/")
            whole = origin + target
            if whole.startswith(f"{base}/"):
                rest = whole[len(base) :]
                return self._upstreams, rest if rest.startswith("/v1/") else f"/v1{rest}"
        path, mark, query = target.partition("?")
        if versioned := _VERSIONED.fullmatch(path):
            base, rest = versioned.groups(default="")
            return _upstreams(origin + base), f"/v1{rest}{mark}{query}"
        # There is no such API, and the policy says so.
        return _upstreams(origin), target

    def _policy(self, upstreams: list[dict[str, Any]]) -> Policy:
        """The policy for some providers, with the registry's thresholds of now."""
        thresholds = [(each.percent, each.severity.value) for each in self._registry.thresholds]
        key = (json.dumps(upstreams), tuple(thresholds))
        policy = self._policies.get(key)
        if policy is None:
            settings = self._settings | {
                "upstreams": upstreams,
                "thresholds": [{"percent": percent, "severity": severity} for percent, severity in thresholds],
                "lost_calls": self._desk.lost_calls,
            }
            lengths = (settings[f"max_{message}_bytes"] for message in ("request", "response"))
            # What is none is the policy's to refuse.
            longest = max((length for length in lengths if isinstance(length, int)), default=_MOST_BYTES)
            policy = Policy(settings, memory_limit=max(8 * longest, 4 << 20))
            if len(self._policies) >= _MOST_POLICIES:
                self._policies.clear()
            self._policies[key] = policy
        return policy


def _upstreams(url: str) -> list[dict[str, Any]]:
    return [{"url": url}]
