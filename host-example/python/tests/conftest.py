"""A stand-in for LLM providers, `tests/src/provider.rs`, as a process."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "target" / "release" / "stub_provider"


class Provider:
    """The stand-in, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _call(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}/stub/{path}", method=method)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def clear(self) -> None:
        """Forget what it was asked."""
        self._call("DELETE", "requests")

    def bodies(self) -> list[Any]:
        """What it was asked since then."""
        return [request["body"] for request in self._call("GET", "requests")]


@pytest.fixture(scope="session")
def running_provider() -> Iterator[Provider]:
    """One for all tests."""
    if not PROGRAM.exists():
        pytest.fail(f"{PROGRAM} is not there: cargo build --release --workspace")
    with subprocess.Popen([PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Provider(process.stdout.readline().strip())
        process.kill()


@pytest.fixture
def provider(running_provider: Provider) -> Provider:
    """One that was asked nothing yet."""
    running_provider.clear()
    return running_provider
