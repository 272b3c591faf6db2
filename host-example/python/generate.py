"""Writes `src/thread_budget/contract.py` from `wit/`: ``python generate.py``; with ``--check`` it compares.

A record, a case or a call that is added to the contract is so in the package, with its documentation. What a class of
the package writes by hand, because Python has a better way to say it, is left out.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE / "src" / "thread_budget"
WIT = HERE.parent.parent / "wit"

#: A record that is known by another name in the class that this package replaces.
NAMES = {"threshold-crossed": "BudgetThresholdCrossed"}
#: The fields that records have there, in their order. What the contract adds comes after them, and can be left out.
FIRST = {
    "threshold-crossed": [
        "threshold-percent",
        "severity",
        "percent-used",
        "tokens-used",
        "tokens-remaining",
        "max-tokens",
    ],
    "budget-warning": ["percent-used", "tokens-used", "tokens-remaining", "max-tokens", "severity", "message"],
}
#: Records that are plain dictionaries there.
DICTIONARIES = {"usage"}
#: Records that are exceptions, which are written by hand.
EXCEPTIONS = {"budget-exhausted"}
#: Where that class allows more than the contract: any name for a threshold.
TYPES = {("threshold-crossed", "severity"): "str"}

SCALARS = {"bool": "bool", "u32": "int", "u64": "int", "f64": "float", "string": "str", "_": "None"}
EMPTY = {"str": '""', "int": "0", "None": "None"}


@dataclass
class Item:
    """A documented name of the contract, with its type or what is in it."""

    kind: str
    name: str
    documentation: str
    type: str = ""
    items: list[Item] = field(default_factory=list)


def parse(text: str) -> list[Item]:
    """The items of the one interface that is in a file. It is written as `wit/` is: an item a line."""
    top: list[Item] = []
    stack: list[list[Item]] = [top]
    documentation: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("///"):
            documentation.append(line[3:].strip())
            continue
        doc, documentation = "\n".join(documentation), []
        if opened := re.fullmatch(r"(interface|record|enum|variant|resource) ([a-z-]+) \{", line):
            item = Item(opened[1], opened[2], doc)
            stack[-1].append(item)
            stack.append(item.items)
        elif line == "}":
            stack.pop()
        elif function := re.fullmatch(r"([a-z-]+): func(\(.*);", line):
            stack[-1].append(Item("func", function[1], doc, function[2]))
        elif typed := re.fullmatch(r"([a-z-]+)(?:: (.*)|\((.*)\))?,", line):
            stack[-1].append(Item("field", typed[1], doc, typed[2] or typed[3] or ""))
    return top[0].items if top else []


def snake(name: str) -> str:
    """A name of a function or field."""
    return name.replace("-", "_")


def pascal(name: str) -> str:
    """A name of a class."""
    return NAMES.get(name) or "".join(map(str.title, name.split("-")))


def split(text: str) -> Iterator[str]:
    """The parts between the commas that are in no brackets."""
    depth = start = 0
    for at, letter in enumerate(text):
        depth += (letter in "(<") - (letter in ")>")
        if letter == "," and not depth:
            yield text[start:at].strip()
            start = at + 1
    if text[start:].strip():
        yield text[start:].strip()


def type_of(wit: str, *, argument: bool = False) -> str:
    """The Python type of a type."""
    if wit in SCALARS:
        return SCALARS[wit]
    if inner := re.fullmatch(r"(list|option|tuple|result)<(.*)>", wit):
        parts = [type_of(part, argument=argument) for part in split(inner[2])]
        match inner[1]:
            case "list":
                return f"{'Sequence' if argument else 'list'}[{parts[0]}]"
            case "option":
                return f"{parts[0]} | None"
            case "tuple":
                return f"tuple[{', '.join(parts)}]"
            case "result":
                return parts[0]
    return pascal(wit)


class Contract:
    """The contract, and what of it is in Python."""

    def __init__(self) -> None:
        texts = [(WIT / f"{name}.wit").read_text("utf-8") for name in ("types", "registry", "warnings")]
        # An interface may call a type that it uses by another name.
        NAMES.update({alias: pascal(name) for name, alias in re.findall(r"([a-z-]+) as ([a-z-]+)[,}]", "".join(texts))})
        self.types, self.registry, self.warnings = map(parse, texts)
        renamed = {item.name: snake(item.name) for item in self.functions()}
        renamed |= {item.name: pascal(item.name) for item in self.types}
        for item in self.types:
            if item.kind == "variant":
                renamed |= {case.name: f"{pascal(case.name)}Error" for case in item.items}
        renamed |= {"out-of-memory": "RegistryMemoryError", "exhausted": "BudgetExhaustedError", "none": "None"}
        self.renamed = renamed

    def functions(self) -> list[Item]:
        """All functions of the registry and of budgets."""
        found = [item for item in (*self.registry, *self.warnings) if item.kind == "func"]
        return found + [item for resource in self.registry if resource.kind == "resource" for item in resource.items]

    def docstring(self, documentation: str, indent: int) -> str:
        """The documentation, in Python's names."""

        def rename(code: re.Match[str]) -> str:
            return re.sub(
                r"(?:warnings\.)?([a-z][a-z-]*[a-z])", lambda name: self.renamed.get(name[0], snake(name[1])), code[0]
            )

        text = re.sub(r"`[^`]+`", rename, documentation)
        paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        space = " " * indent
        lines = [textwrap.fill(paragraph, 120 - indent - 6, break_on_hyphens=False) for paragraph in paragraphs]
        body = textwrap.indent("\n\n".join(lines), space).strip()
        end = f"\n{space}" if "\n" in body else ""
        return f'{space}"""{body}{end}"""'

    def enum(self, item: Item) -> Iterator[str]:
        """An enum compares equal to the names of its cases."""
        yield f"class {pascal(item.name)}(str, Enum):"
        yield self.docstring(item.documentation + " It compares equal to its name.", 4)
        for case in item.items:
            yield f'    {snake(case.name).upper()} = "{case.name}"'
            yield self.docstring(case.documentation, 4)
        yield "    __str__ = str.__str__"

    def record(self, item: Item) -> Iterator[str]:
        """A record is a data class, or a typed dictionary."""
        name = pascal(item.name)
        by_name = {field.name: field for field in item.items}
        first = FIRST.get(item.name, list(by_name))
        if item.name in DICTIONARIES:
            yield f"class {name}(TypedDict):"
        else:
            yield "@dataclass(slots=True)"
            yield f"class {name}:"
        yield self.docstring(item.documentation, 4)
        for each in (*first, *(each for each in by_name if each not in first)):
            python = TYPES.get((item.name, each)) or type_of(by_name[each].type)
            default = "" if each in first else f" = field(default={EMPTY.get(python, 'None')}, compare=False)"
            yield f"    {snake(each)}: {python}{default}"
            yield self.docstring(by_name[each].documentation, 4)

    def call(self, item: Item, function: str, handle: str = "") -> Iterator[str]:
        """A call, or a property where there is nothing to give and something to get."""
        parameters, _, result = item.type.partition(")")
        typed = [part.partition(": ")[::2] for part in split(parameters.removeprefix("("))]
        answer = type_of(result.removeprefix(" -> ")) if result else "None"
        if not typed and answer != "None":
            yield "    @property"
        default = {"bool": " = False"}
        signature = "".join(
            f", {snake(name)}: {type_of(wit, argument=True)}{default.get(wit, '')}" for name, wit in typed
        )
        yield f"    def {snake(item.name)}(self{signature}) -> {answer}:"
        yield self.docstring(item.documentation, 8)
        given = ", ".join([handle] * bool(handle) + [snake(name) for name, _ in typed])
        call = f"self._calls.{function}({given})"
        if answer == "None":
            yield f"        {call}"
        else:
            yield f"        answer: {answer} = {call}"
            yield "        return answer"

    def module(self) -> str:
        """The whole module."""
        body = "\n".join(self.body())
        sequence = "from collections.abc import Sequence\n" if "Sequence[" in body else ""
        return f'''"""The records and calls of the contract. Written by `generate.py`, from `wit/`: do not edit."""

from __future__ import annotations

{sequence}from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict

from .errors import BudgetExhaustedError
{body}
'''

    def body(self) -> Iterator[str]:
        """What comes after the imports."""
        classes = []
        for item in self.types:
            names = tuple(each.name for each in item.items)
            if item.kind == "enum":
                yield from self.enum(item)
                classes.append((names, pascal(item.name)))
            elif item.kind == "record":
                if item.name not in EXCEPTIONS:
                    yield from self.record(item)
                exception = f"{pascal(item.name)}Error"
                classes.append((names, exception if item.name in EXCEPTIONS else pascal(item.name)))
        yield "#: What the values of the contract are in Python, by their fields or cases."
        yield "CLASSES: dict[tuple[str, ...], Any] = {"
        for names, cls in classes:
            yield f"    {names!r}: {cls},"
        yield "}"
        yield "class RegistryCalls:"
        yield '    """The calls of the registry that are in Python what they are in the contract."""'
        yield "    _calls: Any"
        by_hand = methods("registry.py", "ThreadBudgetRegistry")
        for item in (*self.registry, *self.warnings):
            if item.kind == "func" and snake(item.name) not in by_hand:
                yield from self.call(item, snake(item.name))
        for resource in self.registry:
            if resource.kind == "resource":
                yield f"class {pascal(resource.name)}Calls:"
                yield '    """The calls of a budget that are in Python what they are in the contract."""'
                yield "    _calls: Any"
                yield "    _resource: Any"
                by_hand = methods("budget.py", pascal(resource.name))
                for item in resource.items:
                    if snake(item.name) not in by_hand:
                        yield from self.call(
                            item, snake(f"{resource.name}.{item.name}".replace(".", "-")), "self._resource"
                        )


def methods(module: str, cls: str) -> set[str]:
    """What a class of the package defines itself."""
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    [found] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls]
    return {node.name for node in found.body if isinstance(node, ast.FunctionDef)}


def main(arguments: list[str]) -> int:
    """Write the module, or compare it."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(PACKAGE / "contract.py"), "-"]
    formatted = subprocess.run(
        command, input=Contract().module(), stdout=subprocess.PIPE, text=True, check=True, cwd=HERE
    ).stdout
    target = PACKAGE / "contract.py"
    if arguments == ["--check"]:
        if not target.is_file() or target.read_text("utf-8") != formatted:
            print("contract.py is not what generate.py writes; run `python generate.py`", file=sys.stderr)
            return 1
    else:
        target.write_text(formatted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
