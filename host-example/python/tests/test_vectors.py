"""The vectors' runner, which has to be able to fail."""

import json
import shutil
from pathlib import Path

import pytest

from thread_budget import vectors
from thread_budget._instance import BUILT_IN

VECTORS = Path(__file__).parents[3] / "tests" / "vectors"
COMPONENT = str(BUILT_IN)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "nanoseconds_per_call", lambda _: {})


def test_every_vector_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code = vectors.main([COMPONENT, str(VECTORS)])
    report = json.loads(capsys.readouterr().out)
    assert report["failures"] == []
    assert code == 0
    passed = sum(group["passed"] for group in report["groups"].values())
    assert passed == len(list(VECTORS.glob("*/*.json"))) > 100


@pytest.mark.parametrize(
    ("step", "expected", "got"),
    [
        ({"call": "thresholds", "returns": []}, "returns []", "returns [{"),
        ({"call": "has-budget", "thread_id": "a", "returns": 0}, "returns 0", "returns false"),
        ({"call": "has-budget", "thread_id": "a"}, "returns null", "returns false"),
        ({"call": "set-fire", "returns": None}, "returns null", 'unknown call "set-fire"'),
        ({"call": "get-budget", "thread_id": "", "as": "h"}, "returns null", 'fails "invalid-thread-id"'),
        ({"call": "clear", "fails": "out-of-memory"}, 'fails "out-of-memory"', "returns null"),
        ({"call": "has-budget", "thread_id": "a", "colour": 1}, "returns null", "raises"),
        ({"call": "check-budget", "thread_id": "a", "estimated_tokens": -1}, "returns null", 'raises "ValueError'),
    ],
)
def test_what_differs_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step: dict[str, object], expected: str, got: str
) -> None:
    shutil.copytree(VECTORS / "check", tmp_path / "check")
    (tmp_path / "group").mkdir()
    steps = [{"call": "clear"}, step]
    (tmp_path / "group" / "rule.json").write_text(json.dumps({"rule": "", "steps": steps}))
    assert vectors.main([COMPONENT, str(tmp_path)]) == 1
    report = json.loads(capsys.readouterr().out)
    [failure] = report["failures"]
    assert (failure["vector"], failure["step"], failure["expected"]) == ("group/rule", 2, expected)
    assert failure["got"].startswith(got)
    assert report["groups"]["group"] == {"passed": 0, "failed": 1}
    assert report["groups"]["check"]["failed"] == 0


@pytest.mark.parametrize(
    "arguments", [[], [COMPONENT], ["missing.wasm", str(VECTORS)], [COMPONENT, "missing"], [COMPONENT, "a", "b"]]
)
def test_what_cannot_run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert vectors.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
