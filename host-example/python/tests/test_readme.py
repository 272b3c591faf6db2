"""The examples of the README run, and print what it says."""

import re
from pathlib import Path

import pytest
from conftest import Provider

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks_from(text: str) -> list[str]:
    """The first example that has this in it, and the blocks behind it."""
    at = next(at for at, (language, block) in enumerate(BLOCKS) if language == "python" and text in block)
    return [block for _, block in BLOCKS[at:]]


def test_budgets_without_a_router(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    names: dict[str, object] = {}
    exec(blocks_from("BudgetTransport")[0].replace("gpt-5", "stub"), names)
    assert "'request_count': 1" in capsys.readouterr().out
    names["client"].close()  # type: ignore[attr-defined]


def test_check_and_consume(capsys: pytest.CaptureFixture[str]) -> None:
    text, printed, *_ = blocks_from("check_budget")
    exec(text, {})
    assert capsys.readouterr().out == printed


def test_keeping_state(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks_from("snapshot")[0], {})
    assert "'total_tokens': 81000" in capsys.readouterr().out


def test_links_are_absolute() -> None:
    # An index shows the README without the files around it.
    assert all(link.startswith("https://") for link in re.findall(r"\]\((.*?)\)", README))
