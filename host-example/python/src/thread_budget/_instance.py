"""One instance of the component: its lock, its lost state, and the handles that are to be dropped."""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque
from importlib import resources
from pathlib import Path
from typing import Any

from wasmtime import Config, Engine, Store, WasmtimeError
from wasmtime.component import Component, Linker, ResourceAny

from ._codec import Classes, Function, RefusedError
from .errors import LoadError, RegistryLostError, from_contract

_INTERFACES = ("thread-budget:registry/registry@0.1.0", "thread-budget:registry/warnings@0.1.0")

#: Enough for a million threads.
DEFAULT_MEMORY_LIMIT = 512 << 20


def built_in_component() -> Path:
    """The component that this package carries."""
    return Path(str(resources.files(__package__) / "thread_budget.wasm"))


@functools.cache
def _engine() -> Engine:
    return Engine(Config())


@functools.lru_cache(maxsize=8)
def _compiled(path: Path, _modified: int) -> Component:
    return Component.from_file(_engine(), path)


class Handle:
    """A resource of an instance. It is dropped once: by `drop`, or after it was forgotten."""

    def __init__(self, instance: Instance, resource: ResourceAny) -> None:
        # Whoever collects the garbage may be in the middle of a call, so it only queues the drop.
        self._finalizer = weakref.finalize(self, instance.forgotten.append, resource)
        self._finalizer.atexit = False

    @property
    def resource(self) -> ResourceAny:
        """For a call on it. ``ValueError`` when it was taken."""
        alive = self._finalizer.peek()
        if alive is None:
            raise ValueError("this handle is closed; get a new one")
        resource: ResourceAny = alive[2][0]
        return resource

    def take(self) -> ResourceAny | None:
        """The resource, for whoever drops it or gave it to the component; None when it was taken."""
        alive = self._finalizer.detach()
        return None if alive is None else alive[2][0]


class Instance:
    """The component with its memory. Any Python thread may call it; calls take turns."""

    def __init__(self, path: Path, classes: Classes, memory_limit: int = DEFAULT_MEMORY_LIMIT) -> None:
        # Reentrant: a signal handler or a finaliser may call while this very thread is in a call. wasmtime's store is
        # never entered twice, since no Python runs inside a call.
        self.lock = threading.RLock()
        self.changes = 0
        """How many calls may have changed something: what was read at the same count is still true."""
        self.forgotten: deque[ResourceAny] = deque()
        """Resources whose handles are gone."""
        self._lost: str | None = None
        self._classes = classes
        self._functions: dict[str, Function] = {}
        try:
            component = _compiled(path, path.stat().st_mtime_ns)
            self._store = Store(_engine())
            self._store.set_limits(memory_size=memory_limit)
            self._exports = Linker(_engine()).instantiate(self._store, component)
        except OSError as error:
            raise LoadError(f"cannot read the component {path}: {error.strerror}") from error
        except WasmtimeError as error:
            raise LoadError(f"{path} is not a component that can be used here: {error}") from error
        self._interfaces = [self._exports.get_export_index(self._store, name) for name in _INTERFACES]
        if None in self._interfaces:
            raise LoadError(f"{path} is not a component of the world thread-budget:registry/thread-budget@0.1.0")

    def ask(self, name: str, *arguments: Any) -> Any:
        """Make a call that changes nothing."""
        with self.lock:
            if self._lost is not None:
                raise RegistryLostError(self._lost)
            function = self._functions.get(name) or self._find(name)
            lowered = function.lower(*arguments)
            try:
                while self.forgotten:
                    self.forgotten.popleft().drop(self._store)
                return function.call(lowered)
            except RefusedError as refused:
                raise from_contract(refused.case, refused.payload) from None
            except WasmtimeError as error:
                self.changes += 1
                self._lost = str(error)
                raise RegistryLostError(self._lost) from None

    def call(self, name: str, *arguments: Any) -> Any:
        """Make a call that may change something."""
        with self.lock:
            self.changes += 1
            return self.ask(name, *arguments)

    def drop(self, handle: Handle) -> None:
        """Drop the handle's resource now, if nobody took it."""
        with self.lock:
            resource = handle.take()
            if resource is None or self._lost is not None:
                return
            self.changes += 1
            try:
                resource.drop(self._store)
            except WasmtimeError as error:
                self._lost = str(error)
                raise RegistryLostError(self._lost) from None

    def _find(self, name: str) -> Function:
        for interface in self._interfaces:
            index = self._exports.get_export_index(self._store, name, interface)
            export = None if index is None else self._exports.get_func(self._store, index)
            if export is not None:
                function = self._functions[name] = Function(self._store, export, self._classes)
                return function
        raise LoadError(f"the component has no function {name}")
