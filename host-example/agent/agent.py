"""An agent that reads a long log with a tool, and ends as its token budget does: warned, answered, refused.

It knows nothing of budgets: whoever sets OPENAI_BASE_URL to the router gives it one. What its model is told goes into
its requests on their way, for the model to read.
"""

import argparse
import os
from dataclasses import dataclass, field
from typing import Any

from openai import BadRequestError, OpenAI

TASK = """\
Read the log of the plant part by part, with the tool, and answer with a summary of it. When you are told that your
token budget ends, answer with what you have."""

AGAIN = "Thank you. Now read the log of the day before."

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "run",
        "description": "Run a command that prints a part of the log.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
}

ANSWER_TOKENS = 200

ANSWERS = 4
"""After so many it has been asked enough."""


def part(number: int) -> str:
    """A part of the log."""
    return f"Part {number} of 60:\n" + f"Line of part {number}: the pump ran, the valve was open, nobody called.\n" * 8


@dataclass
class Run:
    """What came of the task."""

    name: str
    spent: list[int] = field(default_factory=list)
    """The tokens of all turns up to each."""
    notes: list[str] = field(default_factory=list)
    """What happened in each turn."""
    end: str = f"answered {ANSWERS} times"


def work(name: str, client: OpenAI, model: str, thread: str) -> Run:
    """Work until the model has answered, and go on with the next task, and the next."""
    run = Run(name)
    messages: list[Any] = [{"role": "system", "content": TASK}, {"role": "user", "content": "Go on."}]
    answers = 0
    while answers < ANSWERS:
        try:
            raw = client.chat.completions.with_raw_response.create(
                model=model,
                messages=messages,
                tools=[TOOL],
                max_completion_tokens=ANSWER_TOKENS,
                extra_headers={"x-thread-id": thread},
            )
        except BadRequestError as error:
            if error.code != "budget_exhausted":
                raise
            run.end = f"refused in turn {len(run.spent) + 1}: {error.message}"
            return run
        completion = raw.parse()
        message = completion.choices[0].message
        messages.append(message)
        for number, call in enumerate(message.tool_calls or [], len(run.spent) + 1):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": part(number)})
        if not message.tool_calls:
            answers += 1
            messages.append({"role": "user", "content": AGAIN})
        tokens = completion.usage.total_tokens if completion.usage else 0
        run.spent.append(tokens + (run.spent[-1] if run.spent else 0))
        percent = raw.headers.get("x-budget-used-percent")
        standing = f"{percent} % {raw.headers.get('x-budget-warning', '')}" if percent else ""
        run.notes.append(f"{'reads' if message.tool_calls else 'ANSWERS':<7}  {standing}")
    return run


def table(runs: list[Run]) -> str:
    """All runs side by side."""
    heading = "turn" + "".join(f"  {run.name:<40}" for run in runs)
    lines = [heading.rstrip(), "-" * len(heading)]
    for turn in range(max(len(run.spent) for run in runs)):
        cells = [
            f"{run.spent[turn]:>8,} tokens  {run.notes[turn]:<23}" if turn < len(run.spent) else " " * 40
            for run in runs
        ]
        lines.append((f"{turn + 1:>4}  " + "  ".join(cells)).rstrip())
    lines.append("")
    lines += [f"{run.name}: {run.spent[-1] if run.spent else 0:,} tokens, {run.end}" for run in runs]
    return "\n".join(lines)


def main() -> None:
    """Work at every base URL that is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
    parser.add_argument(
        "base_urls", nargs="*", default=[default], metavar="URL", help="default: OPENAI_BASE_URL, or %(default)s"
    )
    parser.add_argument("--model", default="gpt-5-mini", help="default: %(default)s")
    parser.add_argument("--thread", default="log", help="what the budget is kept for; default: %(default)s")
    arguments = parser.parse_args()
    runs = []
    for base_url in arguments.base_urls:
        runs.append(work(base_url, OpenAI(base_url=base_url), arguments.model, arguments.thread))
    print(table(runs))


if __name__ == "__main__":
    main()
