"""Puts the component into the package: the one that the checkout's Rust host ships."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ComponentHook(BuildHookInterface[Any]):
    """Runs before a wheel, an editable install or a source distribution is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Copy the component to where the package looks for it."""
        packaged = Path(self.root, "src", "thread_budget", "thread_budget.wasm")
        component = Path(self.root).parent / "rust" / "component" / "thread_budget.wasm"
        if component.is_file():
            shutil.copyfile(component, packaged)
        elif not packaged.is_file():  # a source distribution carries it
            raise SystemExit("thread-budget: there is no component here; install from a checkout of thread-budget")
