"""Nothing that a program does with references, processes or its own end is a crash."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thread_budget import ForkedError, ThreadBudget, ThreadBudgetRegistry, get_budget_registry, reset_budget_registry
from thread_budget._instance import BUILT_IN

AGENT = """
import atexit, builtins, gc, sys, threading
from thread_budget import ThreadBudgetRegistry, get_budget_registry

class Agent:
    def __init__(self, registry):
        self.registry = registry
        self.budget, _ = registry.consume("agent", 1, 0)
        self.hold = registry.hold("agent", 5, 5)
        self.hold.sent()
        self.cycle = self

    def __del__(self, write=sys.stdout.write):
        self.registry.consume("agent", 1, 1)
        self.budget.consume(1, 0)
        assert self.registry.get_usage("agent") == self.budget.usage
        self.registry.cleanup_thread("agent")
        write(f"{self.budget.total_tokens} ")
"""


def run(program: str) -> str:
    """What a program prints. It ends well, and says nothing else."""
    done = subprocess.run([sys.executable, "-c", AGENT + program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_cycle_with_its_registry_is_collected() -> None:
    # The hold, which is in the cycle too, is settled as lost before or after the agent's last words.
    printed = run("""
for _ in range(30):
    Agent(ThreadBudgetRegistry())
gc.collect()
print(len(gc.garbage))
""").split()
    assert printed.pop() == "0"
    assert len(printed) == 30
    assert set(printed) <= {"4", "9"}


def test_what_is_brought_back_goes_on() -> None:
    printed = run("""
kept = []

class Phoenix:
    def __init__(self):
        self.registry = ThreadBudgetRegistry(1_000)
        self.budget, _ = self.registry.consume("a", 1, 1)
        self.cycle = self

    def __del__(self):
        kept.append(self.registry)
        kept.append(self.budget)

Phoenix()
gc.collect()
registry, budget = kept
registry.consume("a", 10, 10)
print(budget.total_tokens)
""")
    assert printed == "22\n"


@pytest.mark.parametrize(
    "place",
    ["keep = {}", "keep = {}; keep.cycle = None", "builtins.keep = {}", "get_budget_registry().keep = {}"],
)
@pytest.mark.parametrize("registry", ["ThreadBudgetRegistry()", "get_budget_registry()"])
def test_calls_while_the_interpreter_ends(place: str, registry: str) -> None:
    assert run(place.format(f"Agent({registry})")) in ("", "4 ", "9 ")


def test_calls_at_exit() -> None:
    printed = run("""
budget, _ = get_budget_registry().consume("a", 1, 1)
atexit.register(lambda: print(get_budget_registry().consume("a", 1, 1).usage["total_tokens"], budget.total_tokens))
threading.Thread(target=lambda: [get_budget_registry().has_budget("a") for _ in iter(int, 1)], daemon=True).start()
""")
    assert printed == "4 4\n"


def in_child(check: Callable[[], None]) -> int:
    """How a forked child ends that makes this check."""
    child = os.fork()
    if not child:
        try:
            check()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told(tmp_path: Path) -> None:
    # One that it has to compile itself.
    copy = shutil.copy(BUILT_IN, tmp_path)
    registry = get_budget_registry()
    budget, _ = registry.consume("a", 1, 1)
    hold = registry.hold("a", 1, 1)
    alone = ThreadBudget(100)

    def uses_the_parents() -> None:
        uses = (
            lambda: registry.consume("a", 1, 1),
            lambda: registry.check_budget("a"),
            lambda: get_budget_registry().has_budget("a"),
            lambda: budget.total_tokens,
            lambda: hold.settle(1, 1),
            lambda: alone.consume(1),
            registry.clear,
        )
        for use in uses:
            with pytest.raises(ForkedError, match="make a new one in this process"):
                use()

    def makes_its_own() -> None:
        for own in (ThreadBudgetRegistry(), ThreadBudgetRegistry(component=copy)):
            assert own.consume("a", 1, 1).usage["total_tokens"] == 2
        reset_budget_registry()
        assert not get_budget_registry().has_budget("a")
        other = ThreadBudget(100)
        other.consume(1)
        assert other.total_tokens == 1

    assert in_child(uses_the_parents) == 0
    assert in_child(makes_its_own) == 0
    with registry._calls.instance.lock:
        assert in_child(uses_the_parents) == 0
    # The parent goes on.
    assert hold.settle(1, 1).usage["total_tokens"] == 4
    assert budget.total_tokens == 4
    reset_budget_registry()
