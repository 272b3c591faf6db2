"""A token budget per thread the way a Python agent framework has it, and the time of its calls.

Waits for a line on standard input, answers with the nanoseconds of one call, over and over.
Usage: reference.py check|consume THREAD_ID MAX_TOKENS
"""

import sys
import threading
import time
from dataclasses import dataclass, field


class BudgetExceeded(Exception):
    """Raised when a request does not fit."""


@dataclass(frozen=True)
class Threshold:
    percent: int
    severity: str


@dataclass(frozen=True)
class Crossing:
    thread_id: str
    threshold: Threshold
    percent_used: float
    tokens_used: int
    tokens_remaining: int


@dataclass
class ThreadBudget:
    thread_id: str
    max_tokens: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    request_count: int = 0
    crossed: set = field(default_factory=set)

    @property
    def total_tokens(self):
        return self.prompt_tokens + self.completion_tokens

    @property
    def remaining(self):
        return max(0, self.max_tokens - self.total_tokens)

    @property
    def percent_used(self):
        return self.total_tokens / self.max_tokens * 100 if self.max_tokens else 0.0


@dataclass(frozen=True)
class Consumed:
    total_tokens: int
    remaining: int
    crossings: list


class BudgetRegistry:
    def __init__(self, max_tokens):
        self.max_tokens = max_tokens
        self.thresholds = [Threshold(75, "warning"), Threshold(90, "critical"), Threshold(95, "final")]
        self._budgets = {}
        self._lock = threading.Lock()

    def _get_or_create(self, thread_id):
        budget = self._budgets.get(thread_id)
        if budget is None:
            budget = self._budgets[thread_id] = ThreadBudget(thread_id, self.max_tokens)
        return budget

    def check_budget(self, thread_id, estimated_tokens):
        with self._lock:
            budget = self._get_or_create(thread_id)
            if budget.remaining == 0 or estimated_tokens > budget.remaining:
                raise BudgetExceeded(f"{thread_id}: {budget.total_tokens} of {budget.max_tokens} tokens are used")

    def consume(self, thread_id, prompt_tokens, completion_tokens):
        with self._lock:
            budget = self._get_or_create(thread_id)
            budget.prompt_tokens += prompt_tokens
            budget.completion_tokens += completion_tokens
            budget.request_count += 1
            crossings = []
            for threshold in self.thresholds:
                if threshold.percent not in budget.crossed and budget.percent_used >= threshold.percent:
                    budget.crossed.add(threshold.percent)
                    crossings.append(
                        Crossing(
                            thread_id, threshold, round(budget.percent_used, 1), budget.total_tokens, budget.remaining
                        )
                    )
            return Consumed(budget.total_tokens, budget.remaining, crossings)


def main():
    call, thread_id, max_tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
    registry = BudgetRegistry(max_tokens)
    calls = {
        "check": lambda: registry.check_budget(thread_id, 2_000),
        "consume": lambda: registry.consume(thread_id, 1_400, 300),
    }
    once = calls[call]
    times = 5_000
    for _ in sys.stdin:
        started = time.perf_counter_ns()
        for _ in range(times):
            once()
        print((time.perf_counter_ns() - started) / times, flush=True)


if __name__ == "__main__":
    main()
