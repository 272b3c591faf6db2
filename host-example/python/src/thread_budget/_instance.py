"""One instance of a component: its functions, its lost state, and what it has in memory."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from wasmtime import Config, Engine, Store, WasmtimeError
from wasmtime import _ffi as ffi
from wasmtime.component import Component, ComponentInstanceType, FuncType, Linker

from . import _codec, contract, errors
from ._lifetime import Token, token
from .errors import ForkedError, LoadError, RegistryLostError, ThreadBudgetError

_VERSION = "0.2.0"

#: Enough for a million threads.
DEFAULT_MEMORY_LIMIT = 512 << 20

#: The registry's component that this package carries.
BUILT_IN = Path(__file__).with_name("thread_budget.wasm")


@dataclass(frozen=True, eq=False)
class World:
    """What a component exports, and what Python makes of it."""

    name: str
    """Its name in `wit/`, without the version."""
    interfaces: tuple[str, ...]
    """The interfaces of its package whose functions are called."""
    contract: _codec.Contract
    """Their types."""
    lost: type[ThreadBudgetError]
    """What a trap is, with wasmtime's account of it."""


#: The registry's. No text of its is longer than a thread's id.
REGISTRY = World(
    "thread-budget:registry/thread-budget",
    ("registry", "warnings"),
    _codec.Contract({**contract.CLASSES, **errors.CASES}, longest=1_024, is_plain=False),
    RegistryLostError,
)


class _Compiled:
    """A compiled component, and how its functions are called."""

    def __init__(self, path: Path, world: World) -> None:
        self._contract = world.contract
        config = Config()
        # A forked child has none of the threads that would compile.
        config.parallel_compilation = False
        self.engine = Engine(config)
        self.component = Component.from_file(self.engine, path)
        exports = self.component.type.exports(self.engine)
        package, _, _ = world.name.partition("/")
        self._types: dict[str, tuple[str, str, FuncType]] = {}
        for interface in (f"{package}/{name}@{_VERSION}" for name in world.interfaces):
            type_ = exports.get(interface)
            if not isinstance(type_, ComponentInstanceType):
                raise LoadError(f"{path} is not a component of the world {world.name}@{_VERSION}")
            for name, item in type_.exports(self.engine).items():
                if isinstance(item, FuncType):
                    self._types[_snake(name)] = (interface, name, item)
        self.function = functools.cache(self._function)

    def names(self) -> list[str]:
        """The functions, as Python writes their names."""
        return list(self._types)

    def _function(self, name: str) -> tuple[_codec.Function, Any]:
        interface, export, type_ = self._types[name]
        index = self.component.get_export_index(export, self.component.get_export_index(interface))
        try:
            return _codec.compile_function(export, type_, self._contract), index
        except TypeError as error:
            raise LoadError(f"this package does not fit the component: {export}: {error}") from error


def _snake(name: str) -> str:
    """`[method]thread-budget.can-consume` is `thread_budget_can_consume` here."""
    return name.removeprefix("[method]").replace("-", "_").replace(".", "_")


@functools.lru_cache(maxsize=8)
def _compiled(path: Path, _modified: int, world: World) -> _Compiled:
    return _Compiled(path, world)


class Instance:
    """What every function of an instance refers to."""

    def __init__(self, context: ctypes.c_void_p, store: Token, when_lost: type[ThreadBudgetError]) -> None:
        self.context = context
        self._store = store
        self._when_lost = when_lost
        # Calls that belong together are made with it held. Reentrant, since a finaliser may call in the midst of them.
        self.lock = threading.RLock()
        self.lost: ThreadBudgetError | None = None
        """Why nothing can be called any more."""
        _instances.add(self)

    def refuse(self) -> None:
        """Say why it is lost."""
        if self.lost is not None:
            raise type(self.lost)(*self.lost.args)

    def trapped(self, error: int) -> None:
        """A call trapped: what is in memory cannot be trusted any more."""
        reason = str(WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t))))
        self.lost = self._when_lost(reason)
        self.refuse()


_instances: WeakSet[Instance] = WeakSet()


def _forked() -> None:
    for instance in _instances:
        instance.lost = ForkedError()
        # A thread that the child does not have may have held it.
        instance.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Resource:
    """A resource of an instance. It is dropped once nothing refers to it."""

    __slots__ = ("_token", "address")

    def __init__(self, address: int, instance: Instance) -> None:
        self.address = address
        drop, delete, any_ = _resource_drop, _resource_delete, ctypes.c_void_p(address)

        def free() -> None:
            # A trap, if there is one, shows with the next call.
            if instance.lost is None and (error := drop(instance.context, any_)):
                WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))
            delete(any_)

        self._token = token(free)


_resource_drop = _codec.c_function("wasmtime_component_resource_any_drop", ctypes.c_void_p)
_resource_delete = _codec.c_function("wasmtime_component_resource_any_delete")
_store_delete = _codec.c_function("wasmtime_store_delete")
_get_func = _codec.c_function("wasmtime_component_instance_get_func", ctypes.c_bool)


class Calls:
    """A component with its memory. Its functions are attributes: `calls.has_budget("a")`.

    Any Python thread may call; calls take turns.
    """

    def __init__(self, path: Path, memory_limit: int = DEFAULT_MEMORY_LIMIT, world: World = REGISTRY) -> None:
        try:
            self._compiled = _compiled(path, path.stat().st_mtime_ns, world)
            store = Store(self._compiled.engine)
            store.set_limits(memory_size=memory_limit)
            self._exports = Linker(self._compiled.engine).instantiate(store, self._compiled.component)
        except OSError as error:
            raise LoadError(f"cannot read the component {path}: {error.strerror}") from error
        except WasmtimeError as error:
            raise LoadError(f"{path} is not a component that can be used here: {error}") from error
        context = ctypes.cast(store._context(), ctypes.c_void_p)
        # From here on the store is not freed by wasmtime's class, but by a token.
        address = ctypes.cast(store._consume(), ctypes.c_void_p)
        delete = _store_delete
        self.instance = Instance(context, token(lambda: delete(address)), world.lost)

    def names(self) -> list[str]:
        """The names of all functions."""
        return self._compiled.names()

    def parameters(self, name: str) -> list[str]:
        """The names of a function's parameters, in order."""
        return self._compiled.function(name)[0].parameters

    def __getattr__(self, name: str) -> Any:
        if name not in self._compiled.names():
            raise AttributeError(f"the component has no function {name}")
        function, index = self._compiled.function(name)
        instance = self.instance
        func = ffi.wasmtime_component_func_t()
        exports = ctypes.byref(self._exports._instance)
        if not _get_func(exports, instance.context, ctypes.cast(index.ptr(), ctypes.c_void_p), ctypes.byref(func)):
            raise LoadError(f"the component does not export its function {name}")
        bound = _codec.bind(
            function,
            func=func,  # its address is next
            address=ctypes.c_void_p(ctypes.addressof(func)),
            context=instance.context,
            instance=instance,
            lock=instance.lock,
            resource=lambda address: Resource(address, instance),
        )
        setattr(self, name, bound)
        return bound
