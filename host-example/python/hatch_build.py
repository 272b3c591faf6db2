"""Puts the component into the package: the one of the checkout, built when it is not there yet."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "wasm32-wasip2"


class ComponentHook(BuildHookInterface[Any]):
    """Runs before a wheel, an editable install or a source distribution is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Copy the component to where the package looks for it."""
        packaged = Path(self.root, "src", "thread_budget", "thread_budget.wasm")
        checkout = Path(self.root).parent.parent
        if not (checkout / "wit" / "registry.wit").is_file():
            if not packaged.is_file():
                raise SystemExit("thread-budget: there is no component here; install from a checkout of thread-budget")
            return  # a source distribution, which carries it
        target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
        component = checkout / target / TARGET / "release" / "thread_budget.wasm"
        if not component.is_file():
            build(checkout)
        shutil.copyfile(component, packaged)


def build(checkout: Path) -> None:
    """Build the component with cargo."""
    command = ["cargo", "build", "--release", "--package", "thread-budget", "--target", TARGET]
    try:
        subprocess.run(command, cwd=checkout, check=True)
    except FileNotFoundError:
        raise SystemExit("thread-budget: cargo builds the component; get it from https://rustup.rs") from None
    except subprocess.CalledProcessError:
        raise SystemExit(
            f"thread-budget: the component did not build, see above; "
            f"if the target is missing, run: rustup target add {TARGET}"
        ) from None
