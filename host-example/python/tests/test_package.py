"""What is built has everything in it, and is enough to be installed and used."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import thread_budget

PROJECT = Path(__file__).parents[1]

#: Without a network: a provider's answer is made up.
EXAMPLE = """
import httpx2
from thread_budget import ThreadBudgetRegistry, __version__
from thread_budget.httpx2 import BudgetTransport

answer = {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}}
provider = httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer))
registry = ThreadBudgetRegistry(1_000)
with httpx2.Client(transport=BudgetTransport(registry, thread="agent-7", transport=provider)) as client:
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
    print(__version__, client.post("https://provider/v1/chat/completions", json=body).status_code)
print(registry.get_usage("agent-7")["total_tokens"])
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A wheel and a source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=PROJECT, check=True)
    [wheel] = folder.glob("*.whl")
    [source] = folder.glob("*.tar.gz")
    return wheel, source


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_says_what_it_is(built: tuple[Path, Path]) -> None:
    says = metadata(built[0])
    assert says["Version"] == thread_budget.__version__
    assert says["License-Expression"] == "Apache-2.0 WITH LLVM-exception"
    assert set(says.get_all("Provides-Extra", [])) >= {"httpx", "httpx2"}
    classifiers = says.get_all("Classifier", [])
    assert "Typing :: Typed" in classifiers
    assert not any(each.startswith("Private") for each in classifiers)


def test_the_licence_is_inside(built: tuple[Path, Path]) -> None:
    wheel, source = built
    licence = (PROJECT.parents[1] / "LICENSE").read_bytes()
    name = f"thread_budget-{thread_budget.__version__}"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{name}.dist-info/licenses/LICENSE") == licence
    with tarfile.open(source) as archive:
        packed = archive.extractfile(f"{name}/LICENSE")
        assert packed is not None
        assert packed.read() == licence


def test_the_source_distribution_makes_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, source = built
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", tmp_path, source], check=True)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(tmp_path / wheel.name) as other:
        assert {item.filename: item.CRC for item in one.infolist()} == {
            item.filename: item.CRC for item in other.infolist()
        }


def test_the_wheel_is_installed_and_used(built: tuple[Path, Path], tmp_path: Path) -> None:
    # The versions of the lock, and what the package itself asks for.
    lock = (PROJECT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [line.removesuffix(" \\") for line in lock if line and line[0].isalpha()]
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(pins), "utf-8")
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = f"-m pip install --quiet --constraint {constraints}".split()
    subprocess.run([python, *install, f"{built[0]}[httpx2]"], check=True)
    done = subprocess.run([python, "-c", EXAMPLE], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == [thread_budget.__version__, "200", "42"]
