"""Calls through wasmtime's C API, with everything that depends on a function's type worked out once.

wasmtime's own Python conversion asks for every part of every type again at every call, and reads each value field by
field. Here the type of a function becomes Python code when the function is first used: a `struct` format for its
arguments, one for each record of its result, and the expressions between those and Python's values.

A value of the C API has 32 bytes: 8 for its kind, 24 for the rest. What `struct` makes of these 24 are its items.
"""

from __future__ import annotations

import ctypes
import inspect
import struct
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from types import CodeType
from typing import Any, NamedTuple, is_typeddict

from wasmtime import _ffi as ffi  # the public API has no other way to call a function than its conversion
from wasmtime import component

_VALUE = 32
_ENTRY = 48  # of a record: a name, and a value
_val, _entry = ffi.wasmtime_component_val_t, ffi.wasmtime_component_valrecord_entry_t
if (ctypes.sizeof(_val), _val.of.offset, ctypes.sizeof(_entry), _entry.val.offset) != (_VALUE, 8, _ENTRY, 16):
    raise ImportError("thread_budget reads wasmtime's values as 64-bit machines lay them out; this is not one")

#: The memory of this process: a slice of it is `bytes`, and `struct` reads at an address.
memory: Any = (ctypes.c_char * (2**63 - 1)).from_address(0)

#: Where the text of a `bytes` object is, from its `id`.
_TEXT = bytes.__basicsize__ - 1
_probe = b"thread-budget"
if memory[id(_probe) + _TEXT : id(_probe) + _TEXT + len(_probe)] != _probe:
    raise ImportError("thread_budget needs CPython")

# The lock of the interpreter is kept during a call. No Python runs inside it then, so that a store is never entered
# twice, nor forked in the middle of a call.
_dll = ctypes.PyDLL(str(ffi.filename))


def c_function(name: str, restype: Any = None) -> Any:
    """A function of wasmtime, to be called with arguments that are C values already."""
    function = _dll[name]
    function.restype = restype
    return function


func_call = c_function("wasmtime_component_func_call", ctypes.c_void_p)
val_delete = c_function("wasmtime_component_val_delete")
_clone = c_function("wasmtime_component_resource_any_clone", ctypes.c_void_p)


def resource_clone(address: int) -> int:
    """The address of a copy, since what is in a result is freed with it."""
    copy: int = _clone(ctypes.c_void_p(address))
    return copy


class Contract(NamedTuple):
    """What Python makes of the types of a component."""

    classes: Mapping[Any, Any]
    """The class of a record, enum or error, found by its fields or cases, or by the case's name."""
    longest: int
    """No text of it is longer, in bytes. A longer one is cut to be just too long, so that it is refused whatever the
    component's memory holds.
    """
    is_plain: bool
    """Whether what has no class is plain: a record a named tuple, an enum its case's name, and a variant a pair of that
    and what comes with it. Else there has to be a class.
    """


class Plan(NamedTuple):
    """How values of one type go to C and come back."""

    kind: int
    """What the C API calls the type."""
    format: str
    """The `struct` format of the 24 bytes."""
    lower: Callable[[Any, list[object]], tuple[Any, ...]]
    """From Python to the items. What has to live until the call is over goes into the list."""
    lift: str
    """The expression from the items, which are `{0}`, `{1}` and so on, to Python."""
    owns: str = "True"
    """The condition under which C memory hangs on the items."""

    @property
    def items(self) -> int:
        """How many items there are."""
        return sum(letter in "?HIQd" for letter in self.format)


class Function(NamedTuple):
    """What is known of an exported function before there is an instance."""

    parameters: list[str]
    """Their names, as Python writes them."""
    code: CodeType
    """Defines the function, in a name space that has `names` and what `bind` is given."""
    names: dict[str, Any]


def compile_function(name: str, kind: component.FuncType, contract: Contract) -> Function:
    """Write the function that its type asks for."""
    types = _Types(contract)
    parameters = [parameter.replace("-", "_") for parameter, _ in kind.params]
    plans = [types.plan(ty) for _, ty in kind.params]
    given, prepare, packed = types.lowered(plans, [f"{parameter}: " for parameter in parameters])
    types.names |= {f"size{number}": ctypes.c_size_t(number) for number in (0, 1, len(plans))}
    types.names["pack"] = _struct(f"B7x{plan.format}" for plan in plans).pack
    arguments = f"pack({', '.join(packed)}), size{len(plans)}" if plans else "None, size0"
    if kind.result is None:
        space, answer = "None, size0", ["    return None"]
    else:
        prepare.append("    space = Space()")
        space, answer = "space, size1", types.answer(types.plan(kind.result), _makes_resource(kind.result))
    source = [
        f"def function({', '.join(given)}):",
        "    if instance.lost is not None: instance.refuse()",
        "    keep = []",
        *prepare,
        "    with lock:",
        f"        error = func_call(address, context, {arguments}, {space})",
        "    if error: instance.trapped(error)",
        *answer,
    ]
    return Function(parameters, compile("\n".join(source), f"<{name}>", "exec"), types.names)


def _makes_resource(ty: component.ValType) -> bool:
    return isinstance(ty, component.ResultType) and isinstance(ty.ok, component.OwnType)


def bind(function: Function, **of_instance: Any) -> Callable[..., Any]:
    """The function of an instance: `instance`, its `lock` and `context`, the `address` of its function, and `resource`,
    which makes an object of the address of one.
    """
    names = {**function.names, **of_instance}
    exec(function.code, names)
    # Out of the name space, which would refer to itself through it.
    bound: Callable[..., Any] = names.pop("function")
    return bound


def _address_of(data: bytes, keep: list[object]) -> int:
    keep.append(data)
    return id(data) + _TEXT


def text(value: Any, longest: int, said: str = "") -> bytes:
    """What goes to C of a string."""
    if not isinstance(value, str):
        raise TypeError(f"{said}expected a str, not {type(value).__name__}")
    try:
        return value[: longest + 1].encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{said}expected text, not a lone surrogate (character {error.start})") from None


def unsigned(value: Any, largest: int, said: str = "") -> int:
    """What goes to C of a count."""
    if type(value) is not int:
        # A bool is an int to Python, but never a count; an integer of another library is one.
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{said}expected an int, not {type(value).__name__}")
        value = int(value.__index__())
    if not 0 <= value <= largest:
        raise ValueError(f"{said}expected 0 to {largest:,}, not {value:,}")
    return value  # type: ignore[no-any-return]


def _lower_text(longest: int) -> Callable[[Any, list[object]], tuple[Any, ...]]:
    def lower(value: Any, keep: list[object]) -> tuple[Any, ...]:
        data = text(value, longest)
        return len(data), _address_of(data, keep)

    return lower


def _lower_bytes(value: Any, keep: list[object]) -> tuple[Any, ...]:
    """Each byte is a value, of 32 bytes."""
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes, not {type(value).__name__}")
    if not value:
        return 0, 0
    data = bytearray(_VALUE * len(value))
    data[::_VALUE] = bytes([ffi.WASMTIME_COMPONENT_U8.value]) * len(value)
    data[8::_VALUE] = value
    shared = ctypes.c_char.from_buffer(data)
    keep.append(shared)
    return len(value), ctypes.addressof(shared)


def _lower_bool(value: Any, _keep: list[object]) -> tuple[Any, ...]:
    if not isinstance(value, bool):
        raise TypeError(f"expected a bool, not {type(value).__name__}")
    return (value,)


def _lower_float(value: Any, _keep: list[object]) -> tuple[Any, ...]:
    if type(value) not in (float, int):
        raise TypeError(f"expected a float, not {type(value).__name__}")
    return (float(value),)


def _lower_unsigned(bits: int) -> Callable[[Any, list[object]], tuple[Any, ...]]:
    return lambda value, _keep: (unsigned(value, (1 << bits) - 1),)


def _lower_resource(value: Any, _keep: list[object]) -> tuple[Any, ...]:
    return (value.address,)


def _output_only(_value: Any, _keep: list[object]) -> tuple[Any, ...]:
    raise TypeError("the contract has no such argument")


def _values_of(cls: Any, fields: Sequence[str], optional: Sequence[bool]) -> Callable[[Any], Sequence[Any]]:
    """What reads the fields of a record: of an object that has them as attributes, or of a mapping."""
    get = attrgetter(*fields) if len(fields) > 1 else lambda value, name=fields[0]: (getattr(value, name),)

    def values_of(value: Any) -> Sequence[Any]:
        try:
            values: Sequence[Any] = get(value)
        except AttributeError:
            if not isinstance(value, Mapping):
                raise TypeError(f"expected a {cls.__name__}, not {type(value).__name__}") from None
        else:
            return values
        if unknown := value.keys() - set(fields):
            raise TypeError(f"a {cls.__name__} has no {', '.join(map(repr, sorted(unknown)))}")
        if missing := [name for name, may in zip(fields, optional) if name not in value and not may]:
            raise TypeError(f"a {cls.__name__} needs {', '.join(map(repr, missing))}")
        return [value.get(name) for name in fields]

    return values_of


def saying(said: str, lower: Callable[..., Any], value: Any, keep: list[object]) -> Any:
    """Lower it; what goes wrong begins with what is said."""
    try:
        return lower(value, keep)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{said}{error}") from None


def _struct(formats: Iterable[str]) -> struct.Struct:
    """What packs and unpacks values that lie next to each other."""
    return struct.Struct("=" + "".join(formats))


_BYTES = Plan(
    ffi.WASMTIME_COMPONENT_LIST.value,
    "QQ8x",
    _lower_bytes,
    f"(memory[{{1}} + 8:{{1}} + {_VALUE} * {{0}}:{_VALUE}] if {{0}} else b'')",
    "{0}",
)
_U16 = Plan(ffi.WASMTIME_COMPONENT_U16.value, "H22x", _lower_unsigned(16), "{0}", "False")
_U32 = Plan(ffi.WASMTIME_COMPONENT_U32.value, "I20x", _lower_unsigned(32), "{0}", "False")
_U64 = Plan(ffi.WASMTIME_COMPONENT_U64.value, "Q16x", _lower_unsigned(64), "{0}", "False")
_RESOURCE = Plan(ffi.WASMTIME_COMPONENT_RESOURCE.value, "Q16x", _lower_resource, "clone({0})")
_SCALARS: dict[type, Plan] = {
    component.Bool: Plan(ffi.WASMTIME_COMPONENT_BOOL.value, "?23x", _lower_bool, "{0}", "False"),
    component.U16: _U16,
    component.U32: _U32,
    component.U64: _U64,
    component.F64: Plan(ffi.WASMTIME_COMPONENT_F64.value, "d16x", _lower_float, "{0}", "False"),
    component.OwnType: _RESOURCE,
    component.BorrowType: _RESOURCE,
}


class _Types:
    """Plans of types, and the names that their code uses."""

    def __init__(self, contract: Contract) -> None:
        self.classes, self.longest, self.is_plain = contract
        decoded = "memory[{1}:{1} + {0}].decode()"
        self.text = Plan(ffi.WASMTIME_COMPONENT_STRING.value, "QQ8x", _lower_text(self.longest), decoded)
        self.names: dict[str, Any] = {
            "clone": resource_clone,
            "func_call": func_call,
            "memory": memory,
            "saying": saying,
            "text": text,
            "unsigned": unsigned,
            "val_delete": val_delete,
        }

    def name(self, value: Any) -> str:
        """A name for a value that code uses."""
        name = f"value{len(self.names)}"
        self.names[name] = value
        return name

    def define(self, source: Sequence[str]) -> str:
        """The name of the function that the lines define."""
        exec(compile("\n".join(source), "<a type of the component>", "exec"), self.names)
        return self.name(self.names.pop("function"))

    def lowered(self, plans: Sequence[Plan], said: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
        """Names for given values, the lines that prepare them, and the expressions that are packed of each: its kind
        and its items. What goes wrong with one begins with what is `said`. The usual scalars are written out.
        """
        given, lines, packed = [], [], []
        for at, (plan, said_of) in enumerate(zip(plans, map(repr, said))):
            value, item = f"given{at}", f"item{at}"
            items = item
            if plan is self.text:
                usual = f"type({value}) is str and {value}.isascii() and len({value}) <= {self.longest}"
                line = f"{value}.encode() if {usual} else text({value}, {self.longest}, {said_of})"
                items = f"len({item}), id({item}) + {_TEXT}"
            elif plan in (_U32, _U64):
                largest = (1 << (32 if plan is _U32 else 64)) - 1
                usual = f"type({value}) is int and 0 <= {value} <= {largest}"
                line = f"{value} if {usual} else unsigned({value}, {largest}, {said_of})"
            elif plan is _RESOURCE:
                line = f"{value}.address"
            else:
                line, items = f"saying({said_of}, {self.name(plan.lower)}, {value}, keep)", f"*{item}"
            given.append(value)
            lines.append(f"    {item} = {line}")
            packed.append(f"{plan.kind}, {items}")
        return given, lines, packed

    def answer(self, plan: Plan, makes_resource: bool) -> list[str]:
        """The lines that return what is in the result's space, and free it."""
        items = [f"item{at}" for at in range(plan.items)]
        self.names |= {"Space": ctypes.c_uint8 * _VALUE, "unpack": _struct([f"8x{plan.format}"]).unpack_from}
        lift = plan.lift.format(*items)
        return [
            f"    {', '.join(items)}, = unpack(space)",
            "    try:",
            f"        return {f'resource({lift})' if makes_resource else lift}",
            "    finally:",
            f"        if {plan.owns.format(*items)}: val_delete(space)",
        ]

    def lifted(self, plans: Sequence[Plan], before: str, whole: Callable[[list[str]], str]) -> str:
        """The name of a function that reads values from an address on, each after the padding `before`, and returns
        what `whole` makes of the expressions for them.
        """
        read: list[str] = []
        items: list[str] = []
        for plan in plans:
            its = [f"item{len(items) + number}" for number in range(plan.items)]
            items += its
            read.append(plan.lift.format(*its))
        unpack = self.name(_struct(before + plan.format for plan in plans).unpack_from)
        return self.define(
            [
                "def function(at):",
                f"    {', '.join(items)}, = {unpack}(memory, at)",
                f"    return {whole(read)}",
            ]
        )

    def value(self, plan: Plan) -> str:
        """The name of a function that reads the value at an address."""
        return self.lifted([plan], "8x", lambda read: read[0])

    def plan(self, ty: component.ValType) -> Plan:
        """The plan of any type that the contract uses."""
        if type(ty) in _SCALARS:
            return _SCALARS[type(ty)]
        match ty:
            case component.String():
                return self.text
            case component.EnumType():
                return self.enum(ty)
            case component.RecordType():
                return self.record(ty)
            case component.ListType(element=component.U8()):
                return _BYTES
            case component.ListType():
                return self.list(self.plan(ty.element))
            case component.TupleType():
                return self.tuple([self.plan(element) for element in ty.elements])
            case component.OptionType():
                return self.option(self.plan(ty.payload))
            case component.VariantType():
                cases = {name: None if case is None else self.plan(case) for name, case in ty.cases}
                is_error = any(name in self.classes for name in cases)
                return self.variant(cases) if self.is_plain and not is_error else self.error(cases)
            case component.ResultType():
                ok, err = (None if case is None else self.plan(case) for case in (ty.ok, ty.err))
                return self.result(ok, err)
        raise TypeError(f"there is nothing in Python for {ty}")

    def cls(self, key: Any, plain: Callable[[], Any] | None = None) -> Any:
        """The class of a record, enum or error."""
        if key in self.classes:
            return self.classes[key]
        if plain is None or not self.is_plain:
            raise TypeError(f"there is nothing in Python for {key}")
        return plain()

    def enum(self, ty: component.EnumType) -> Plan:
        """An enum is its case's name in C."""
        cls = self.cls(tuple(ty.names), lambda: str)
        members = self.name({name.encode(): cls(name) for name in ty.names})

        def lower(value: Any, keep: list[object]) -> tuple[Any, ...]:
            return self.text.lower(cls(value) + "", keep)

        return Plan(ffi.WASMTIME_COMPONENT_ENUM.value, "QQ8x", lower, f"{members}[memory[{{1}}:{{1}} + {{0}}]]")

    def record(self, ty: component.RecordType) -> Plan:
        """A record is made with its class, and read of an object with its attributes or of a mapping."""
        fields = [name.replace("-", "_") for name, _ in ty.fields]
        plans = [self.plan(field) for _, field in ty.fields]
        names = tuple(name for name, _ in ty.fields)
        cls = self.cls(names, lambda: namedtuple("record", fields))

        def whole(read: list[str]) -> str:
            if is_typeddict(cls):
                return f"{{{', '.join(f'{field!r}: {value}' for field, value in zip(fields, read))}}}"
            by_field = dict(zip(fields, read))
            return f"{self.name(cls)}({', '.join(by_field[name] for name in inspect.signature(cls).parameters)})"

        values_of = self.name(_values_of(cls, fields, [isinstance(ty, component.OptionType) for _, ty in ty.fields]))
        pack = self.name(_struct(f"QQB7x{plan.format}" for plan in plans).pack)
        given, prepare, packed = self.lowered(plans, [f"{field}: " for field in fields])
        encoded = [self.name(name.encode()) for name in names]
        entries = [f"len({name}), id({name}) + {_TEXT}, {its}" for name, its in zip(encoded, packed)]
        lower = self.define(
            [
                "def function(value, keep):",
                f"    {', '.join(given)}, = {values_of}(value)",
                *prepare,
                f"    data = {pack}({', '.join(entries)})",
                f"    keep += data, {', '.join(f'item{at}' for at in range(len(plans)))}",
                f"    return {len(plans)}, id(data) + {_TEXT}",
            ]
        )
        lift = f"{self.lifted(plans, '24x', whole)}({{1}})"
        return Plan(ffi.WASMTIME_COMPONENT_RECORD.value, "QQ8x", self.names[lower], lift)

    def list(self, element: Plan) -> Plan:
        """A list's values lie next to each other."""
        pack, kind, lower_element = _struct([f"B7x{element.format}"]).pack, element.kind, element.lower
        lift = self.value(element)

        def lower(value: Any, keep: list[object]) -> tuple[Any, ...]:
            if not isinstance(value, (list, tuple)):
                raise TypeError(f"expected a list, not {type(value).__name__}")
            data = b"".join([pack(kind, *lower_element(item, keep)) for item in value])
            return len(value), _address_of(data, keep)

        values = f"[{lift}(at) for at in range({{1}}, {{1}} + {_VALUE} * {{0}}, {_VALUE})] if {{0}} else []"
        return Plan(ffi.WASMTIME_COMPONENT_LIST.value, "QQ8x", lower, f"({values})", "{0}")

    def tuple(self, elements: Sequence[Plan]) -> Plan:
        """A tuple is a list of values of different types."""
        function = self.lifted(elements, "8x", lambda read: f"({', '.join(read)},)")
        return Plan(ffi.WASMTIME_COMPONENT_TUPLE.value, "QQ8x", _output_only, f"{function}({{1}})")

    def option(self, payload: Plan) -> Plan:
        """An option is an address, or null."""
        pack, kind, lower_payload = _struct([f"B7x{payload.format}"]).pack, payload.kind, payload.lower

        def lower(value: Any, keep: list[object]) -> tuple[Any, ...]:
            return (0 if value is None else _address_of(pack(kind, *lower_payload(value, keep)), keep),)

        lift = f"({self.value(payload)}({{0}}) if {{0}} else None)"
        return Plan(ffi.WASMTIME_COMPONENT_OPTION.value, "Q16x", lower, lift, "{0}")

    def cases(self, cases: dict[str, Plan | None], made: Callable[[str, Callable[[int], Any] | None], Any]) -> str:
        """The name of a dictionary of what is `made` for each case and what reads the value that comes with it."""
        read = {case: None if plan is None else self.names[self.value(plan)] for case, plan in cases.items()}
        return self.name({case.encode(): made(case, lift) for case, lift in read.items()})

    def variant(self, cases: dict[str, Plan | None]) -> Plan:
        """A variant is a pair: the case's name, and what comes with it or None."""
        packs = {case: plan and _struct([f"B7x{plan.format}"]).pack for case, plan in cases.items()}

        def lower(value: Any, keep: list[object]) -> tuple[Any, ...]:
            case, payload = value
            plan, pack = cases[case], packs[case]
            at = _address_of(pack(plan.kind, *plan.lower(payload, keep)), keep) if plan and pack else 0
            return (*self.text.lower(case, keep), at)

        def made(case: str, lift: Callable[[int], Any] | None) -> Callable[[int], tuple[str, Any]]:
            return (lambda _at: (case, None)) if lift is None else (lambda at: (case, lift(at)))

        lift = f"{self.cases(cases, made)}[memory[{{1}}:{{1}} + {{0}}]]({{2}})"
        return Plan(ffi.WASMTIME_COMPONENT_VARIANT.value, "QQQ", lower, lift)

    def error(self, cases: dict[str, Plan | None]) -> Plan:
        """The error of the contract is an exception."""
        variant = self.variant(cases)

        def lower(value: Any, keep: list[object]) -> tuple[Any, ...]:
            # A record's fields are the error's own.
            plan = cases[value.case]
            is_record = plan is not None and plan.kind == ffi.WASMTIME_COMPONENT_RECORD.value
            return variant.lower((value.case, value if is_record else next(iter(value.args), None)), keep)

        def made(case: str, lift: Callable[[int], Any] | None) -> Callable[[int], Exception]:
            cls = self.cls(case)
            if lift is None:
                return lambda _at: cls()
            # A record of the error's own fields is that error already.
            return lambda at: payload if isinstance(payload := lift(at), Exception) else cls(payload)

        return variant._replace(lower=lower, lift=f"{self.cases(cases, made)}[memory[{{1}}:{{1}} + {{0}}]]({{2}})")

    def result(self, ok: Plan | None, err: Plan | None) -> Plan:
        """A result is its value, or its error raised; a text is what a `ValueError` says."""

        def refuse(lift: Callable[[int], Any]) -> Callable[[int], None]:
            def refuse(at: int) -> None:
                raise error if isinstance(error := lift(at), Exception) else ValueError(error)

            return refuse

        if err is None:
            raise TypeError("there is nothing in Python for a result that cannot be an error")
        refused = self.name(refuse(self.names[self.value(err)]))
        good = "None" if ok is None else f"{self.value(ok)}({{1}})"
        return Plan(
            ffi.WASMTIME_COMPONENT_RESULT.value,
            "?7xQ8x",
            _output_only,
            f"({good} if {{0}} else {refused}({{1}}))",
            "{1}",
        )
