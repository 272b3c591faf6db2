"""Calls through wasmtime's C API, with everything that depends on a function's type worked out once.

wasmtime's own Python conversion asks for every part of every type again at every call, and reads each value field by
field. Here a type is read when the component is loaded and becomes a plan: a `struct` format for the 24 bytes that
a C value has after its kind, and what to do with the one field that this yields. A whole record, or a whole list of
them, is then read and written at once.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping
from ctypes import c_char_p, c_size_t, c_void_p, string_at
from operator import attrgetter
from typing import Any, NamedTuple

from wasmtime import Store, WasmtimeError, component
from wasmtime import _ffi as ffi  # the public API has no other way to call a function than its conversion

#: The Python class of a record or enum of the contract, found by its fields' or cases' names.
Classes = Mapping[tuple[str, ...], Callable[..., Any]]


class _Plan(NamedTuple):
    kind: int
    """What the C API calls the type."""
    format: str
    """How the 24 bytes of payload are read and written: a `struct` format of one field."""
    lift: Callable[[Any], Any] | None
    """From that field to Python; the field is the value already when None."""
    lower: Callable[[Any, list[object]], Any]
    """From Python to that field. What has to live until the call is over goes into the list."""


_SLICE = struct.Struct("=QQ8x")
_VARIANT = struct.Struct("=QQQ")
_RESULT = struct.Struct("=?7xQ8x")

_val = ffi.wasmtime_component_val_t
_entry = ffi.wasmtime_component_valrecord_entry_t
_VAL_SIZE = 32
_ENTRY_SIZE = 48
if (ctypes.sizeof(_val), _val.of.offset, ctypes.sizeof(_entry), _entry.val.offset) != (_VAL_SIZE, 8, _ENTRY_SIZE, 16):
    raise ImportError("thread_budget reads wasmtime's values as 64-bit machines lay them out; this is not one")


def _prototype(name: str, restype: Any, *argtypes: Any) -> Any:
    # Indexing the library gives a function of our own, so that wasmtime's keeps its argument types.
    function = ffi.dll[name]
    function.restype, function.argtypes = restype, argtypes
    return function


_func_call = _prototype(
    "wasmtime_component_func_call", c_void_p, c_void_p, c_void_p, c_char_p, c_size_t, c_void_p, c_size_t
)
_val_delete = _prototype("wasmtime_component_val_delete", None, c_void_p)
_resource_clone = _prototype(
    "wasmtime_component_resource_any_clone", ctypes.POINTER(ffi.wasmtime_component_resource_any_t), c_void_p
)
_ResultSpace = ctypes.c_uint8 * _VAL_SIZE


class RefusedError(Exception):
    """The component answered with an error of the contract: its case and payload."""

    def __init__(self, case: str, payload: Any) -> None:
        super().__init__(case, payload)
        self.case, self.payload = case, payload


class Function:
    """An exported function. Call it with the store's lock held."""

    def __init__(self, store: Store, function: component.Func, classes: Classes) -> None:
        kind = function.type(store)
        self._function = function  # the address below is into it
        self._address = ctypes.addressof(function._func)
        self._context = ctypes.cast(store._context(), c_void_p)
        self._plans = [(name.replace("-", "_"), _plan(ty, classes)) for name, ty in kind.params]
        self._params = struct.Struct("=" + "".join(f"B7x{plan.format}" for _, plan in self._plans))
        result = kind.result
        self._result = None if result is None else _lift_val(_plan(result, classes))

    def lower(self, *arguments: Any) -> tuple[bytes, list[object]]:
        """The arguments for `call`. ``TypeError`` and ``ValueError`` come from here, before anything is called."""
        keep: list[object] = []
        fields: list[Any] = []
        for (name, plan), argument in zip(self._plans, arguments, strict=True):
            try:
                fields += plan.kind, plan.lower(argument, keep)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from None
        return self._params.pack(*fields), keep

    def call(self, lowered: tuple[bytes, list[object]]) -> Any:
        """Call it. `RefusedError` for an error of the contract, `WasmtimeError` for a trap."""
        params, _keep = lowered
        if self._result is None:
            error = _func_call(self._address, self._context, params, len(self._plans), None, 0)
            _raise_if(error)
            return None
        space = _ResultSpace()
        error = _func_call(self._address, self._context, params, len(self._plans), space, 1)
        _raise_if(error)
        try:
            return self._result(space)
        finally:
            _val_delete(space)


def _raise_if(error: int | None) -> None:
    if error:
        raise WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))


def _lift_val(plan: _Plan) -> Callable[[Any], Any]:
    """What reads a value, kind included, from 32 bytes."""
    unpack = struct.Struct(f"=8x{plan.format}").unpack
    lift = plan.lift
    if lift is None:
        return lambda data: unpack(data)[0]
    return lambda data: lift(unpack(data)[0])


def _lower_val(plan: _Plan) -> Callable[[Any, list[object]], int]:
    """What writes a value, kind included, and returns its address."""
    pack = struct.Struct(f"=B7x{plan.format}").pack
    return lambda value, keep: _address_of(pack(plan.kind, plan.lower(value, keep)), keep)


def _address_of(data: bytes, keep: list[object]) -> int:
    keep.append(data)
    return c_void_p.from_buffer(c_char_p(data)).value or 0  # half the time of a cast


def _string_at(slice_: bytes) -> bytes:
    size, address = _SLICE.unpack(slice_)
    return string_at(address, size) if size else b""


def _lower_string(value: Any, keep: list[object]) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"expected a str, not {type(value).__name__}")
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"expected text, not a lone surrogate (character {error.start})") from None
    return _SLICE.pack(len(data), _address_of(data, keep))


def _lower_bool(value: Any, _: list[object]) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected a bool, not {type(value).__name__}")
    return value


def _lower_float(value: Any, _: list[object]) -> float:
    if type(value) not in (float, int):
        raise TypeError(f"expected a float, not {type(value).__name__}")
    return float(value)


def _unsigned(bits: int) -> Callable[[Any, list[object]], int]:
    largest = (1 << bits) - 1

    def lower(value: Any, _: list[object]) -> int:
        if type(value) is not int:
            # A bool is an int to Python, but never a count; an integer of another library is one.
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise TypeError(f"expected an int, not {type(value).__name__}")
            value = int(value.__index__())
        if not 0 <= value <= largest:
            raise ValueError(f"expected 0 to {largest:,}, not {value:,}")
        return value  # type: ignore[no-any-return]

    return lower


def _lower_resource(value: Any, _: list[object]) -> int:
    return ctypes.addressof(value.ptr().contents)


def _lift_resource(address: int) -> component.ResourceAny:
    # A copy, since the original is freed with the result.
    return component.ResourceAny._from_ptr(_resource_clone(address))


_SCALARS: dict[type, _Plan] = {
    component.Bool: _Plan(ffi.WASMTIME_COMPONENT_BOOL.value, "?23x", None, _lower_bool),
    component.U32: _Plan(ffi.WASMTIME_COMPONENT_U32.value, "I20x", None, _unsigned(32)),
    component.U64: _Plan(ffi.WASMTIME_COMPONENT_U64.value, "Q16x", None, _unsigned(64)),
    component.F64: _Plan(ffi.WASMTIME_COMPONENT_F64.value, "d16x", None, _lower_float),
    component.String: _Plan(
        ffi.WASMTIME_COMPONENT_STRING.value, "24s", lambda slice_: _string_at(slice_).decode(), _lower_string
    ),
    component.OwnType: _Plan(ffi.WASMTIME_COMPONENT_RESOURCE.value, "Q16x", _lift_resource, _lower_resource),
    component.BorrowType: _Plan(ffi.WASMTIME_COMPONENT_RESOURCE.value, "Q16x", _lift_resource, _lower_resource),
}


def _plan(ty: component.ValType, classes: Classes) -> _Plan:
    """The plan of any type that the contract uses."""
    if type(ty) in _SCALARS:
        return _SCALARS[type(ty)]
    match ty:
        case component.EnumType():
            return _enum(classes[tuple(ty.names)])
        case component.RecordType():
            return _record(ty, classes)
        case component.ListType():
            return _list(_plan(ty.element, classes))
        case component.TupleType():
            return _tuple([_plan(element, classes) for element in ty.elements])
        case component.OptionType():
            return _option(_plan(ty.payload, classes))
        case component.VariantType():
            return _variant({name: None if case is None else _plan(case, classes) for name, case in ty.cases})
        case component.ResultType():
            ok, err = (None if case is None else _plan(case, classes) for case in (ty.ok, ty.err))
            return _result(ok, err)
    raise TypeError(f"the component uses a type that its contract does not: {ty}")


def _output_only(_value: Any, _keep: list[object]) -> Any:
    raise TypeError("the contract has no such argument")


def _enum(cls: Any) -> _Plan:
    members = {member.value.encode(): member for member in cls}

    def lower(value: Any, keep: list[object]) -> bytes:
        return _lower_string(cls(value).value, keep)

    kind = ffi.WASMTIME_COMPONENT_ENUM.value
    return _Plan(kind, "24s", lambda slice_: members[_string_at(slice_)], lower)


def _record(ty: component.RecordType, classes: Classes) -> _Plan:
    names = [name for name, _ in ty.fields]
    plans = [_plan(field, classes) for _, field in ty.fields]
    cls: Any = classes[tuple(names)]

    unpack = struct.Struct("=" + "".join(f"24x{plan.format}" for plan in plans)).unpack
    size = _ENTRY_SIZE * len(plans)
    lifts = [plan.lift for plan in plans]

    def lift_plain(slice_: bytes) -> Any:
        return cls(*unpack(string_at(_SLICE.unpack(slice_)[1], size)))

    def lift_mixed(slice_: bytes) -> Any:
        fields = unpack(string_at(_SLICE.unpack(slice_)[1], size))
        return cls(*[field if lift is None else lift(field) for lift, field in zip(lifts, fields)])

    pack = struct.Struct("=" + "".join(f"QQB7x{plan.format}" for plan in plans)).pack
    encoded = [name.encode() for name in names]
    heads = [(len(name), _address_of(name, []), plan.kind) for name, plan in zip(encoded, plans)]
    get = attrgetter(*[name.replace("-", "_") for name in names])

    def lower(value: Any, keep: list[object]) -> bytes:
        if not isinstance(value, cls):
            raise TypeError(f"expected a {cls.__name__}, not {type(value).__name__}")
        keep.append(encoded)
        fields: list[Any] = []
        for head, plan, field in zip(heads, plans, get(value)):
            fields += *head, plan.lower(field, keep)
        return _SLICE.pack(len(plans), _address_of(pack(*fields), keep))

    lift = lift_plain if lifts.count(None) == len(lifts) else lift_mixed
    return _Plan(ffi.WASMTIME_COMPONENT_RECORD.value, "24s", lift, lower)


def _list(element: _Plan) -> _Plan:
    read = struct.Struct(f"=8x{element.format}").iter_unpack
    pack = struct.Struct(f"=B7x{element.format}").pack
    kind, lift_element, lower_element = element.kind, element.lift, element.lower

    def lift(slice_: bytes) -> list[Any]:
        count, address = _SLICE.unpack(slice_)
        if not count:
            return []
        fields = read(string_at(address, _VAL_SIZE * count))
        return [field if lift_element is None else lift_element(field) for (field,) in fields]

    def lower(value: Any, keep: list[object]) -> bytes:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"expected a list, not {type(value).__name__}")
        data = b"".join([pack(kind, lower_element(item, keep)) for item in value])
        return _SLICE.pack(len(value), _address_of(data, keep))

    return _Plan(ffi.WASMTIME_COMPONENT_LIST.value, "24s", lift, lower)


def _tuple(elements: list[_Plan]) -> _Plan:
    unpack = struct.Struct("=" + "".join(f"8x{element.format}" for element in elements)).unpack
    lifts = [element.lift for element in elements]

    def lift(slice_: bytes) -> tuple[Any, ...]:
        fields = unpack(string_at(_SLICE.unpack(slice_)[1], _VAL_SIZE * len(elements)))
        return tuple([field if lift is None else lift(field) for lift, field in zip(lifts, fields)])

    return _Plan(ffi.WASMTIME_COMPONENT_TUPLE.value, "24s", lift, _output_only)


def _option(payload: _Plan) -> _Plan:
    lift_payload, lower_payload = _lift_val(payload), _lower_val(payload)

    def lift(address: int) -> Any:
        return lift_payload(string_at(address, _VAL_SIZE)) if address else None

    def lower(value: Any, keep: list[object]) -> int:
        return 0 if value is None else lower_payload(value, keep)

    return _Plan(ffi.WASMTIME_COMPONENT_OPTION.value, "Q16x", lift, lower)


def _variant(cases: dict[str, _Plan | None]) -> _Plan:
    lifts = {name: None if plan is None else _lift_val(plan) for name, plan in cases.items()}

    def lift(data: bytes) -> tuple[str, Any]:
        size, name_address, address = _VARIANT.unpack(data)
        name = string_at(name_address, size).decode()
        lift_payload = lifts[name]
        return name, None if lift_payload is None else lift_payload(string_at(address, _VAL_SIZE))

    return _Plan(ffi.WASMTIME_COMPONENT_VARIANT.value, "24s", lift, _output_only)


def _result(ok: _Plan | None, err: _Plan | None) -> _Plan:
    lift_ok, lift_err = (None if plan is None else _lift_val(plan) for plan in (ok, err))

    def lift(data: bytes) -> Any:
        is_ok, address = _RESULT.unpack(data)
        lift_payload = lift_ok if is_ok else lift_err
        payload: Any = None if lift_payload is None else lift_payload(string_at(address, _VAL_SIZE))
        if not is_ok:
            raise RefusedError(*payload)
        return payload

    return _Plan(ffi.WASMTIME_COMPONENT_RESULT.value, "24s", lift, _output_only)
