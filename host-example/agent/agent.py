"""An agent that works through a long task in turns and wraps up when its model is told that the budget runs low.

It knows nothing of budgets: whoever sets OPENAI_BASE_URL to the router gives it one. The router puts the warning into
the request, for the model to read; a request that does not fit is refused, and no provider sees it.
"""

import argparse
import os
from dataclasses import dataclass, field
from typing import Any

from openai import OpenAI, RateLimitError

TASK = """\
You read a long report part by part and keep notes. After each part, write down what matters and end with the word
CONTINUE to get the next one. When you are told that your token budget runs low, or when there is nothing left to read,
write a summary of your notes instead and end with the word FINISH."""

ANSWER_TOKENS = 200


def part(number: int) -> str:
    """A part of the report."""
    return f"Part {number} of 30:\n" + f"Line of part {number}: the pump ran, the valve was open, nobody called.\n" * 8


@dataclass
class Run:
    """What came of the task."""

    name: str
    spent: list[int] = field(default_factory=list)
    """The tokens of all turns up to each."""
    notes: list[str] = field(default_factory=list)
    """What happened in each turn."""
    end: str = "read all parts"


def work(name: str, client: OpenAI, model: str, turns: int, thread: str) -> Run:
    """Work until the model says that it has finished, the budget refuses, or there is nothing left to read."""
    run = Run(name)
    messages: list[Any] = [{"role": "system", "content": TASK}]
    for number in range(1, turns + 1):
        messages.append({"role": "user", "content": part(number)})
        try:
            raw = client.chat.completions.with_raw_response.create(
                model=model,
                messages=messages,
                max_completion_tokens=ANSWER_TOKENS,
                extra_headers={"x-thread-id": thread},
            )
        except RateLimitError as error:
            if error.code != "budget_exhausted":
                raise
            run.end = f"refused in turn {number}: no summary"
            return run
        completion = raw.parse()
        answer = completion.choices[0].message.content or ""
        tokens = completion.usage.total_tokens if completion.usage else 0
        messages.append({"role": "assistant", "content": answer})
        run.spent.append(tokens + (run.spent[-1] if run.spent else 0))
        percent = raw.headers.get("x-budget-used-percent")
        run.notes.append(f"{percent} % {raw.headers.get('x-budget-warning', '')}" if percent else "")
        if answer.rstrip().endswith("FINISH"):
            run.end = f"wrapped up in turn {number}: {answer}"
            return run
    return run


def table(runs: list[Run]) -> str:
    """All runs side by side."""
    heading = "turn" + "".join(f"  {run.name:<34}" for run in runs)
    lines = [heading.rstrip(), "-" * len(heading)]
    for turn in range(max(len(run.spent) for run in runs)):
        cells = [
            f"{run.spent[turn]:>8,} tokens  {run.notes[turn]:<17}" if turn < len(run.spent) else " " * 34
            for run in runs
        ]
        lines.append((f"{turn + 1:>4}  " + "  ".join(cells)).rstrip())
    lines.append("")
    lines += [f"{run.name}: {run.spent[-1] if run.spent else 0:,} tokens, {run.end}" for run in runs]
    return "\n".join(lines)


def main() -> None:
    """Work through the task at every base URL that is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
    parser.add_argument(
        "base_urls", nargs="*", default=[default], metavar="URL", help="default: OPENAI_BASE_URL, or %(default)s"
    )
    parser.add_argument("--model", default="gpt-5-mini", help="default: %(default)s")
    parser.add_argument("--thread", default="report", help="what the budget is kept for; default: %(default)s")
    parser.add_argument("--turns", type=int, default=30, help="parts of the report to read; default: %(default)s")
    arguments = parser.parse_args()
    runs = []
    for base_url in arguments.base_urls:
        client = OpenAI(base_url=base_url)
        runs.append(work(base_url, client, arguments.model, arguments.turns, arguments.thread))
    print(table(runs))


if __name__ == "__main__":
    main()
