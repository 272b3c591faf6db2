"""The policy, hosted by this package, follows the transcripts of `tests/transcripts`, whose README has their format."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from wasmtime import component

from thread_budget import errors
from thread_budget._policy import Policy

FOLDER = Path(__file__).parents[3] / "tests" / "transcripts"
TRANSCRIPTS = sorted(FOLDER.glob("**/*.json"))

#: What an event has unless the transcript says otherwise.
DEFAULTS: dict[str, dict[str, Any]] = {
    "request": {
        "id": "x",
        "date": "2026-11-25",
        "method": "POST",
        "target": "/v1/chat/completions",
        "headers": [],
        "body": "",
    },
    "answer": {"status": 200, "headers": ["content-type: application/json"]},
    "failed": {"reason": "it broke"},
}


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.relative_to(FOLDER).with_suffix("").as_posix())
def test_a_transcript_is_followed(path: Path) -> None:
    transcript = json.loads(path.read_text("utf-8"))
    policy = Policy({"upstreams": [{"url": "https://provider"}], **transcript.get("config", {})}, 256 << 20)
    exchange, now = None, 0
    for number, step in enumerate(transcript["steps"], 1):
        assert step.keys() <= {"actions", "at", "event", "logs", "next", "why"}
        event = event_of(step["event"])
        if exchange is None or "request" in event:
            exchange = policy.begin()
        now = step.get("at", now)
        turn = to_json(exchange.step(now, value_of(event_type(exchange), event)))
        wrong = "; ".join(wrong_with(step, turn))
        assert not wrong, f"step {number}: {wrong}\nthe turn is {turn}"


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 100


def event_type(exchange: Any) -> component.ValType:
    """The type of an event."""
    _, _, step = exchange._compiled._types["step"]
    ty: component.ValType = dict(step.params)["event"]
    return ty


def event_of(event: Any) -> Any:
    """An event as the contract has it."""
    if isinstance(event, str):
        return event
    [(name, payload)] = event.items()
    if name not in DEFAULTS:
        return {name: plain(payload)}
    fields = plain(DEFAULTS[name] | payload)
    if "headers" in fields:
        fields["headers"] = "".join(f"{line}\n" for line in fields["headers"])
    if name == "request" and fields["body"] not in ("too_long", "too_slow", "broken"):
        fields["body"] = {"whole": fields["body"]}
    return {name: fields}


def plain(value: Any) -> Any:
    """A value, with text in the place of what stands for it."""
    match value:
        case {"json": content, **rest} if not rest:
            return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        case {"events": events, **rest} if not rest:
            return "".join(f"{event}\n\n" for event in events)
        case {"repeat": [text, times], **rest} if not rest:
            return text * times
        case {"join": parts, **rest} if not rest:
            return "".join(plain(part) for part in parts)
        case dict():
            return {name: plain(field) for name, field in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


def value_of(ty: component.ValType, value: Any) -> Any:
    """A value of a type; what is left out is 0, empty or none."""
    match ty:
        case component.Bool():
            return bool(value)
        case component.String():
            return value or ""
        case component.F64():
            return float(value or 0)
        case component.ListType(element=component.U8()):
            return (value or "").encode()
        case component.ListType():
            return [value_of(ty.element, item) for item in value or []]
        case component.OptionType():
            return None if value is None else value_of(ty.payload, value)
        case component.EnumType():
            return value.replace("_", "-") if value else ty.names[0]
        case component.RecordType():
            fields = {name.replace("-", "_"): field for name, field in ty.fields}
            assert value is None or value.keys() <= fields.keys(), f"{value} has other fields than {list(fields)}"
            return {name: value_of(field, (value or {}).get(name)) for name, field in fields.items()}
        case component.VariantType():
            name, content = (value, None) if isinstance(value, str) else next(iter(value.items()))
            name = name.replace("_", "-")
            payload = dict(ty.cases)[name]
            given = None if payload is None else value_of(payload, content)
            return errors.CASES[name](*arguments(given)) if name in errors.CASES else (name, given)
    return value or 0


def arguments(payload: Any) -> list[Any]:
    """What an error is made of."""
    if isinstance(payload, dict):
        return [payload[name] for name in ("thread_id", "used", "max_tokens", "held", "requested")]
    return [] if payload is None else [payload]


def to_json(value: Any) -> Any:
    """A value that the policy gave, as transcripts write it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(dataclasses.asdict(value))
    if hasattr(value, "_asdict"):
        return {name: to_json(field) for name, field in value._asdict().items()}
    match value:
        case dict():
            return {name: to_json(field) for name, field in value.items()}
        case list():
            return [to_json(item) for item in value]
        case bytes():
            return value.decode(errors="replace")
        case (name, payload):
            name = name.replace("-", "_")
            return name if payload is None else {name: to_json(payload)}
    return value


def wrong_with(step: Any, turn: Any) -> list[str]:
    """What of a turn differs from what the step expects."""
    logs = [action["log"]["text"] for action in turn["actions"] if "log" in action]
    actions = [action for action in turn["actions"] if "log" not in action]
    unsaid = [text for text in step.get("logs", []) if not any(text in log for log in logs)]
    wrong = [f"no log says {text!r}" for text in unsaid]
    return (
        wrong + differing(step.get("actions", []), actions, "actions") + differing(step["next"], turn["next"], "next")
    )


def differing(expected: Any, actual: Any, place: str) -> list[str]:
    """What is said must be so; what is not said does not matter."""
    text = actual if isinstance(actual, str) else json.dumps(actual)
    match expected:
        case {"json": content, **rest} if not rest:
            is_right = isinstance(actual, str) and json.loads(actual) == content
        case {"contains": parts, **rest} if not rest:
            is_right = all(part in text for part in ([parts] if isinstance(parts, str) else parts))
        case {"lacks": part, **rest} if not rest:
            is_right = part not in text
        case {"events": _, **rest} | {"repeat": _, **rest} if not rest:
            is_right = plain(expected) == actual
        case dict() if isinstance(actual, list):
            headers = {header["name"]: header["value"] for header in actual}
            return [
                wrong for name in expected for wrong in differing(expected[name], headers.get(name), f"{place}.{name}")
            ]
        case dict() if isinstance(actual, dict) and expected.keys() <= actual.keys():
            return [wrong for name in expected for wrong in differing(expected[name], actual[name], f"{place}.{name}")]
        case list() if isinstance(actual, list) and len(expected) == len(actual):
            pairs = enumerate(zip(expected, actual))
            return [wrong for at, pair in pairs for wrong in differing(*pair, f"{place}[{at}]")]
        case _:
            is_right = expected == actual
    return [] if is_right else [f"{place} is {actual} where {expected} is right"]
