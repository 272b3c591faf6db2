"""The policy: the component that decides what becomes of a request to an LLM provider. It is the router's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import _codec
from ._instance import REGISTRY, Calls, World
from .errors import PolicyLostError

#: The policy's component that this package carries.
BUILT_IN = Path(__file__).with_name("thread_budget_router.wasm")

#: The policy's. A request's body may be as long as its settings allow, and no text is longer.
POLICY = World(
    "thread-budget:router/router",
    ("policy",),
    _codec.Contract(REGISTRY.contract.classes, longest=1 << 32, is_plain=True),
    PolicyLostError,
)


class Policy:
    """The policy with its settings, which it has compiled. A setting that is none is a ``ValueError``."""

    def __init__(self, settings: Mapping[str, Any], memory_limit: int, component: Path = BUILT_IN) -> None:
        self._component, self._memory_limit = component, memory_limit
        self._configuration: bytes = self._instance().compile(json.dumps(settings))

    def _instance(self) -> Calls:
        return Calls(self._component, self._memory_limit, POLICY)

    def begin(self) -> Calls:
        """An instance, which decides one exchange: `step` tells it what has happened."""
        instance = self._instance()
        instance.configure(self._configuration)
        return instance
