"""What is generated has everything that the component has."""

import dataclasses
import inspect

import pytest

from thread_budget import ThreadBudget, ThreadBudgetRegistry, Usage, contract, errors
from thread_budget._instance import BUILT_IN, Calls

CALLS = Calls(BUILT_IN)


@pytest.mark.parametrize("name", CALLS.names())
def test_every_call_is_in_python(name: str) -> None:
    cls = ThreadBudget if name.startswith("thread_budget_") else ThreadBudgetRegistry
    found = inspect.getattr_static(cls, name.removeprefix("thread_budget_"))
    assert inspect.getdoc(found)
    # Its types are read now: each has its class, and each error too.
    assert callable(getattr(CALLS, name))


def test_every_field_is_in_python() -> None:
    for names, cls in contract.CLASSES.items():
        if dataclasses.is_dataclass(cls):
            fields = [field.name for field in dataclasses.fields(cls)]
        elif cls is Usage:
            fields = list(Usage.__annotations__)
        elif cls is errors.BudgetExhaustedError:
            fields = list(inspect.signature(cls).parameters)
        else:
            fields = [member.value for member in cls]
        assert sorted(fields) == sorted(name.replace("-", "_") for name in names)
