"""Puts what the checkout has elsewhere into the package: the components that its Rust hosts ship, and the licence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: Where the package has a file, and where the checkout does.
FILES = {
    "src/thread_budget/thread_budget.wasm": "../rust/component/thread_budget.wasm",
    "src/thread_budget/thread_budget_router.wasm": "../serve/component/thread_budget_router.wasm",
    "LICENSE": "../../LICENSE",
}


class CheckoutHook(MetadataHookInterface):
    """Runs before anything is built. A build hook would be too late for the licence, which the metadata names."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Copy each file to where the package looks for it."""
        for packaged, original in FILES.items():
            source, target = Path(self.root, original), Path(self.root, packaged)
            if source.is_file():
                shutil.copyfile(source, target)
            elif not target.is_file():  # a source distribution carries it
                raise SystemExit(f"thread-budget: there is no {target.name}; install from a checkout of thread-budget")
        metadata["license-files"] = ["LICENSE"]
