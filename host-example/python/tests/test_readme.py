"""The examples of the README run, and print what it says."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_example(capsys: pytest.CaptureFixture[str]) -> None:
    at = next(at for at, (language, _) in enumerate(BLOCKS) if language == "python")
    exec(BLOCKS[at][1], {})
    assert capsys.readouterr().out == BLOCKS[at + 1][1]


def test_keeping_state(capsys: pytest.CaptureFixture[str]) -> None:
    [text] = [text for _, text in BLOCKS if "snapshot" in text]
    exec(text, {})
    assert "'total_tokens': 81000" in capsys.readouterr().out
