#!/usr/bin/env python3
"""The contract in Python, as `wit/` words it: the expected values of the vectors come from here.

    reference.py FILE...          print what comes of every step
    reference.py --check          compare every vector beside this file with what comes of its steps
    reference.py --bless FILE...  write what comes of the steps into the files

It is slow on purpose: plain dicts, whole numbers without bounds, everything looked for and added up again at every
call. It shares no code with the registry and none with the model that random calls are compared with.
"""

import copy
import json
import sys
from pathlib import Path

MOST = 2**64 - 1  # the largest count; sums saturate here
LARGEST_PORTABLE = 2**53  # a larger count is a decimal string in vectors
MAX_DEPTH = 16
MAX_BATCH = 4096
MAX_HOLDS = 256  # of a thread's own, and as many that have moved to it
REMEMBERED = 64  # request ids a thread, and marks a thread
SEVERITIES = ["warning", "critical", "final"]


class Refused(Exception):
    """An error of the contract, as vectors write it."""

    def __init__(self, error):
        super().__init__(error)
        self.error = error


def refuse(name, value=None):
    raise Refused(name if value is None else {name: value})


def bounded(count):
    return min(count, MOST)


# One thread, by itself.


def new_thread(thread_id, birth, max_tokens, parent=None, opened=False):
    return {
        "thread_id": thread_id,
        "birth": birth,
        "parent": parent,
        "opened": opened,
        "max_tokens": max_tokens,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "request_count": 0,
        "average_tokens": 0,
        "triggered": {},  # percent -> the severity it was crossed with
        "pending": set(),  # percents
        "request_ids": [],
        "holds": [],
        "lost": [],
    }


def total(thread):
    return bounded(thread["prompt_tokens"] + thread["completion_tokens"])


def remaining(thread):
    return max(thread["max_tokens"] - total(thread), 0)


def usage(thread):
    return {
        "prompt_tokens": thread["prompt_tokens"],
        "completion_tokens": thread["completion_tokens"],
        "total_tokens": total(thread),
        "remaining": remaining(thread),
        "max_tokens": thread["max_tokens"],
        "request_count": thread["request_count"],
    }


def percent_used(thread):
    if thread["max_tokens"] == 0:
        return 0.0
    return float(total(thread)) / float(thread["max_tokens"]) * 100.0


def tenths(percent):
    """Rounded to one decimal; decimal output rounds exact ties to even."""
    return float(f"{percent:.1f}")


def is_reached(thread, percent):
    limit = thread["max_tokens"]
    return 1 <= percent <= 100 and limit > 0 and total(thread) * 100 >= percent * limit


def most_urgent(thread):
    return max(thread["triggered"].values(), key=SEVERITIES.index, default=None)


def remember_request(thread, request_id):
    thread["request_ids"] = (thread["request_ids"] + [request_id])[-REMEMBERED:]


def leave_mark(thread, mark):
    thread["lost"] = (thread["lost"] + [mark])[-REMEMBERED:]


def hold_of(request_id, made_for, prompt_tokens, completion_tokens, completion_before, holder, deadline):
    return {
        "made_for": made_for,
        "request_id": request_id,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "completion_before": completion_before,
        "holder": holder,
        "deadline": deadline,
    }


def mark_of(hold, prompt_tokens, completion_tokens):
    return {
        "made_for": hold["made_for"],
        "request_id": hold["request_id"],
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
    }


def raise_mark(mark, prompt_tokens, completion_tokens):
    """Make it say these numbers where they are larger. Returns what is more."""
    more = [max(prompt_tokens - mark["prompt_tokens"], 0), max(completion_tokens - mark["completion_tokens"], 0)]
    mark["prompt_tokens"] += more[0]
    mark["completion_tokens"] += more[1]
    return more


def threshold_list(thresholds):
    """Ascending by percent."""
    return [{"percent": percent, "severity": severity} for percent, severity in sorted(thresholds.items())]


def state_of(thread):
    state = {}
    for key, value in thread.items():
        if key == "triggered":
            state["triggered_thresholds"] = threshold_list(value)
        elif key == "pending":
            state["pending_thresholds"] = sorted(value)
        else:
            state[key] = value
    return state


def thread_of(state):
    """The thread that has this state; `invalid-state` when the state contradicts itself."""
    triggered, pending = state["triggered_thresholds"], state["pending_thresholds"]
    thread = new_thread(state["thread_id"], state["birth"], state["max_tokens"], state["parent"], state["opened"])
    for key in ("prompt_tokens", "completion_tokens", "request_count", "average_tokens", "request_ids"):
        thread[key] = state[key]
    thread["triggered"] = {threshold["percent"]: threshold["severity"] for threshold in triggered}
    thread["pending"] = set(pending)
    thread["holds"] = [dict(hold) for hold in state["holds"]]
    thread["lost"] = [dict(mark) for mark in state["lost"]]

    own_marks = [mark for mark in thread["lost"] if mark["made_for"] is None]
    named = thread["holds"] + thread["lost"]
    possible = (
        (thread["opened"] or thread["parent"] is None)
        and thread["average_tokens"] <= (total(thread) if thread["request_count"] > 0 else 0)
        # A dict or a set gives back the list it was made of only when that ascends, each percent once.
        and state_of(thread)["triggered_thresholds"] == triggered
        and state_of(thread)["pending_thresholds"] == pending
        and all(is_reached(thread, percent) for percent in thread["triggered"])
        and all(percent in thread["triggered"] for percent in pending)
        and len(thread["request_ids"]) <= REMEMBERED
        and all(len(holds_of(thread, moved)) <= MAX_HOLDS for moved in (False, True))
        and len(thread["lost"]) <= REMEMBERED
        and all(is_request_id(request_id) for request_id in thread["request_ids"])
        and all(is_request_id(one["request_id"]) for one in named)
        and all(one["made_for"] is None or is_thread_id(one["made_for"]) for one in named)
        and all(hold["completion_before"] <= hold["completion_tokens"] for hold in thread["holds"])
        and all(mark["prompt_tokens"] <= thread["prompt_tokens"] for mark in own_marks)
        and all(mark["completion_tokens"] <= thread["completion_tokens"] for mark in own_marks)
    )
    if not possible:
        refuse("invalid-state")
    return thread


def holds_of(thread, moved):
    """Its own holds, or those that have moved to it."""
    return [hold for hold in thread["holds"] if (hold["made_for"] is not None) == moved]


def names_of(thread, kind):
    """The names of what is held, marked or remembered."""
    if kind == "request_ids":
        return [(thread["thread_id"], request_id) for request_id in thread["request_ids"]]
    return [(one["made_for"] or thread["thread_id"], one["request_id"]) for one in thread[kind]]


def is_thread_id(text):
    return 1 <= len(text.encode()) <= 1024


def is_request_id(text):
    return 1 <= len(text.encode()) <= 256


def check_thread_id(thread_id):
    if not is_thread_id(thread_id):
        refuse("invalid-thread-id")


def check_ids(thread_id, request_id):
    check_thread_id(thread_id)
    if not is_request_id(request_id):
        refuse("invalid-request-id")


def warning_of(crossed):
    opening, advice = {
        "warning": ("Note: ", ""),
        "critical": (
            "WARNING: ",
            " Consider wrapping up: finish the current step, summarise, or hand over.",
        ),
        "final": (
            "CRITICAL: ",
            " The next request may fail: give your answer or save your state now.",
        ),
    }[crossed["severity"]]
    percent, left = crossed["percent_used"], crossed["tokens_remaining"]
    message = f"{opening}{percent:,.0f}% of the token budget is used, {left:,} tokens are left.{advice}"
    return {**crossed, "message": message}


class Registry:
    """The registry. A call of the contract is the method of its name, with `_` for `-` and for `.`."""

    def __init__(self):
        self.limit = 100_000
        self.max_threads = 2**32 - 1
        self.next_birth = 1
        self.least_birth = 0  # one above every birth restored
        self.thresholds_in_force = {75: "warning", 90: "critical", 95: "final"}
        self.threads = {}
        self.told = None  # thread id -> the state that `take-changes` told last; None until it is called
        self.handles = {}  # a vector's name for a handle -> the thread, which may be there no longer

    def put(self, step):
        """Make a step's call. Returns `returns` or `fails`, and the value."""
        arguments = {name: value for name, value in step.items() if name not in ("call", "returns", "fails")}
        method = getattr(self, step["call"].replace("-", "_").replace(".", "_"))
        try:
            return "returns", portable(method(**arguments))
        except Refused as refused:
            return "fails", portable(refused.error)

    # Threads and trees.

    def is_detached(self, thread):
        return self.threads.get(thread["thread_id"]) is not thread

    def path(self, thread):
        """The thread and its ancestors, nearest first."""
        path = [thread]
        while path[-1]["parent"] is not None and not self.is_detached(thread):
            path.append(self.threads[path[-1]["parent"]])
        return path

    def below(self, thread):
        """The thread and every one below it."""
        return [other for other in self.threads.values() if any(one is thread for one in self.path(other))]

    def born(self):
        birth = self.next_birth
        self.next_birth = bounded(birth + 1)
        return birth

    def check_room_for_one(self):
        if len(self.threads) >= self.max_threads:
            refuse("too-many-threads", self.max_threads)

    def get_or_create(self, thread_id):
        if thread_id not in self.threads:
            check_thread_id(thread_id)
            self.check_room_for_one()
            self.threads[thread_id] = new_thread(thread_id, self.born(), self.limit)
        return self.threads[thread_id]

    def check_parent(self, thread_id, parent):
        if parent == thread_id:
            refuse("parent-cycle", parent)
        if parent not in self.threads:
            refuse("unknown-parent", parent)
        path = self.path(self.threads[parent])
        if any(ancestor["thread_id"] == thread_id for ancestor in path):
            refuse("parent-cycle", parent)
        if len(path) >= MAX_DEPTH:
            refuse("too-deep", MAX_DEPTH)

    def hand_over(self, gone, ancestor):
        """What outlives a thread goes to its nearest ancestor that is left, or ends where there is none."""
        if ancestor is None:
            return
        for hold in gone["holds"]:
            ancestor["holds"].append({**hold, "made_for": hold["made_for"] or gone["thread_id"]})
        for mark in gone["lost"]:
            leave_mark(ancestor, {**mark, "made_for": mark["made_for"] or gone["thread_id"]})
        too_many = len(holds_of(ancestor, moved=True)) - MAX_HOLDS
        for hold in holds_of(ancestor, moved=True)[: max(too_many, 0)]:
            self.charge_lost(ancestor, hold, hold["prompt_tokens"], hold["completion_tokens"], leaves_mark=False)

    # What is held.

    def held(self, thread, apart=None):
        """Held in the thread and below it, but for one hold."""
        if self.is_detached(thread):
            return 0
        holds = [hold for other in self.below(thread) for hold in other["holds"] if hold is not apart]
        return sum(hold["prompt_tokens"] + hold["completion_tokens"] for hold in holds)

    def left(self, thread, apart=None):
        """Left beside what is used and held: the least of the thread and its ancestors."""
        rooms = [one["max_tokens"] - total(one) - self.held(one, apart) for one in self.path(thread)]
        return max(min(rooms), 0)

    def find(self, kind, thread_id, request_id):
        """The thread that has the hold, or the mark, of these names, and that. A hold and a mark of the same names
        are in the same thread."""
        for thread in self.threads.values():
            for one, name in zip(thread[kind], names_of(thread, kind)):
                if name == (thread_id, request_id):
                    return thread, one
        return None, None

    def check(self, path, requested, apart=None, had=0):
        """Refuse for the nearest that has no room. `had` tokens fit anyway: the hold that is kept apart."""
        for thread in path:
            held = self.held(thread, apart)
            left = thread["max_tokens"] - total(thread) - held
            if left <= 0 or requested > max(left, had):
                refuse(
                    "exhausted",
                    {
                        "thread_id": thread["thread_id"],
                        "used": total(thread),
                        "held": held,
                        "max_tokens": thread["max_tokens"],
                        "requested": bounded(requested),
                    },
                )

    # What was used.

    def runway(self, thread):
        average = thread["average_tokens"]
        return None if average == 0 else self.left(thread) // average

    def numbers(self, thread, percent, severity):
        return {
            "thread_id": thread["thread_id"],
            "threshold_percent": percent,
            "severity": severity,
            "percent_used": tenths(percent_used(thread)),
            "tokens_used": total(thread),
            "tokens_remaining": remaining(thread),
            "max_tokens": thread["max_tokens"],
            "runway": self.runway(thread),
        }

    def cross(self, thread, thresholds):
        crossed = []
        for percent, severity in sorted(thresholds.items()):
            if is_reached(thread, percent) and percent not in thread["triggered"]:
                thread["triggered"][percent] = severity
                thread["pending"].add(percent)
                crossed.append(self.numbers(thread, percent, severity))
        return crossed

    def warnings(self, thread):
        pending = sorted(thread["pending"])
        return [warning_of(self.numbers(thread, percent, thread["triggered"][percent])) for percent in pending]

    def add(self, thread, prompt_tokens, completion_tokens):
        """Add tokens to the thread and its ancestors, and report what that crosses."""
        path = self.path(thread)
        for one in path:
            one["prompt_tokens"] = bounded(one["prompt_tokens"] + prompt_tokens)
            one["completion_tokens"] = bounded(one["completion_tokens"] + completion_tokens)
        crossed = [crossing for one in path for crossing in self.cross(one, self.thresholds_in_force)]
        return self.standing(thread, crossed=crossed)

    def record(self, thread, prompt_tokens, completion_tokens):
        """Add the tokens of one request."""
        tokens = bounded(prompt_tokens + completion_tokens)
        for one in self.path(thread):
            average = (3 * one["average_tokens"] + tokens + 3) // 4  # + 3 rounds up
            one["average_tokens"] = tokens if one["request_count"] == 0 else average
            one["request_count"] = bounded(one["request_count"] + 1)
        return self.add(thread, prompt_tokens, completion_tokens)

    def standing(self, thread, crossed=(), repeated=False):
        return {
            "usage": usage(thread),
            "room": self.left(thread),
            "severity": most_urgent(thread),
            "crossed": list(crossed),
            "repeated": repeated,
        }

    def holding(self, thread, completion_tokens, repeated=False):
        return {
            "completion_tokens": completion_tokens,
            "usage": usage(thread),
            "room": self.left(thread),
            "severity": most_urgent(thread),
            "runway": self.runway(thread),
            "pending": self.warnings(thread),
            "repeated": repeated,
        }

    # The calls of the interface `registry`, in its order.

    def configure(self, max_tokens_per_thread):
        self.limit = max_tokens_per_thread

    def max_tokens_per_thread(self):
        return self.limit

    def set_thresholds(self, thresholds):
        new = {}
        for threshold in thresholds:
            percent = threshold["percent"]
            if not 1 <= percent <= 100 or percent in new:
                refuse("invalid-threshold", percent)
            new[percent] = threshold["severity"]
        self.thresholds_in_force = new

    def thresholds(self):
        return threshold_list(self.thresholds_in_force)

    def set_max_threads(self, max_threads):
        self.max_threads = max_threads

    def set_next_birth(self, birth):
        self.next_birth = max(birth, self.least_birth)

    def get_budget(self, thread_id, **handle):
        self.handles[handle["as"]] = self.get_or_create(thread_id)

    def check_budget(self, thread_id, estimated_tokens):
        thread = self.get_or_create(thread_id)
        self.check(self.path(thread), estimated_tokens)

    def consume(self, thread_id, prompt_tokens, completion_tokens):
        return self.record(self.get_or_create(thread_id), prompt_tokens, completion_tokens)

    def consume_batch(self, entries):
        if len(entries) > MAX_BATCH:
            refuse("batch-too-large", MAX_BATCH)
        for entry in entries:
            check_thread_id(entry["thread_id"])
        before = dict(self.threads), self.next_birth
        try:
            for entry in entries:
                self.get_or_create(entry["thread_id"])
        except Refused:
            self.threads, self.next_birth = before
            raise
        return [crossing for entry in entries for crossing in self.consume(**entry)["crossed"]]

    def hold(
        self, thread_id, request_id, prompt_tokens, completion_tokens, least_completion_tokens, holder, deadline
    ):
        check_ids(thread_id, request_id)
        wanted = prompt_tokens + completion_tokens
        least = prompt_tokens + min(least_completion_tokens, completion_tokens)
        thread, old, mark = self.find_request(thread_id, request_id)
        made_for = (old or mark or {}).get("made_for")
        thread = thread or self.threads.get(thread_id)

        def answer(tokens, before):
            """Hold so many tokens, and say where the thread stands."""
            numbers = prompt_tokens, tokens - prompt_tokens, before, holder, deadline
            hold = hold_of(request_id, made_for, *numbers)
            if old is None:
                thread["holds"].append(hold)
            else:
                old.update(hold)
            return self.holding(thread, hold["completion_tokens"])

        if old is not None:
            had = old["prompt_tokens"] + old["completion_tokens"]
            granted = wanted
            if wanted > had:
                self.check(self.path(thread), least, old, had)
                granted = min(wanted, max(self.left(thread, old), had))
            is_more = granted - prompt_tokens > old["completion_tokens"]
            before = old["completion_tokens"] if is_more else min(old["completion_before"], granted - prompt_tokens)
            return answer(granted, before)
        if thread is None:
            self.check_room_for_one()
            self.check([new_thread(thread_id, self.next_birth, self.limit)], least)
            thread = self.get_or_create(thread_id)
        elif mark is None and request_id in thread["request_ids"]:
            return self.holding(thread, 0, repeated=True)
        else:
            self.check(self.path(thread), least)
            if len(holds_of(thread, moved=made_for is not None)) >= MAX_HOLDS:
                refuse("too-many-holds", MAX_HOLDS)
        return answer(min(wanted, self.left(thread)), 0)

    def settle(self, thread_id, request_id, prompt_tokens, completion_tokens, remember):
        check_ids(thread_id, request_id)
        thread, hold, mark = self.find_request(thread_id, request_id)
        if thread is None:
            thread = self.threads.get(thread_id)
            if thread is not None and request_id in thread["request_ids"]:
                return self.standing(thread, repeated=True)
            if not remember:
                refuse("unknown-hold")
            thread = self.get_or_create(thread_id)
            remember_request(thread, request_id)
            return self.record(thread, prompt_tokens, completion_tokens)

        if hold is not None:
            thread["holds"].remove(hold)
        is_gone = (hold or mark)["made_for"] is not None
        if remember and not is_gone:
            remember_request(thread, request_id)
        if mark is not None:
            more = raise_mark(mark, prompt_tokens, completion_tokens)
            if not (remember and is_gone):
                thread["lost"].remove(mark)
            return self.add(thread, *more)
        if remember and is_gone:
            leave_mark(thread, mark_of(hold, prompt_tokens, completion_tokens))
        return self.record(thread, prompt_tokens, completion_tokens)

    def settle_lost(self, thread_id, request_id, prompt_tokens, completion_tokens):
        check_ids(thread_id, request_id)
        thread, hold, mark = self.find_request(thread_id, request_id)
        if hold is None:
            known = self.threads.get(thread_id)
            if thread is None and known is not None and request_id in known["request_ids"]:
                thread = known
            if thread is None:
                refuse("unknown-hold")
            return self.standing(thread, repeated=True)

        return self.charge_lost(thread, hold, prompt_tokens, completion_tokens)

    def charge_lost(self, thread, hold, prompt_tokens, completion_tokens, leaves_mark=True):
        thread["holds"].remove(hold)
        _, mark = self.find("lost", hold["made_for"] or thread["thread_id"], hold["request_id"])
        if mark is not None:
            return self.add(thread, *raise_mark(mark, prompt_tokens, completion_tokens))
        if leaves_mark:
            leave_mark(thread, mark_of(hold, prompt_tokens, completion_tokens))
        return self.record(thread, prompt_tokens, completion_tokens)

    def find_request(self, thread_id, request_id):
        """The thread that has a hold or a mark of these names, the hold, and the mark."""
        holding, hold = self.find("holds", thread_id, request_id)
        marked, mark = self.find("lost", thread_id, request_id)
        return holding or marked, hold, mark

    def release(self, thread_id, request_id):
        holding, hold = self.find("holds", thread_id, request_id)
        if hold is not None:
            holding["holds"].remove(hold)
        return hold is not None

    def open_thread(self, thread_id, options, **handle):
        max_tokens, parent = options.get("max_tokens"), options.get("parent")
        check_thread_id(thread_id)
        if parent is not None:
            self.check_parent(thread_id, parent)
        thread = self.threads.get(thread_id)
        if thread is None:
            self.check_room_for_one()
            limit = self.limit if max_tokens is None else max_tokens
            opened = max_tokens is not None or parent is not None
            thread = new_thread(thread_id, self.born(), limit, parent, opened)
            self.threads[thread_id] = thread
        elif max_tokens not in (None, thread["max_tokens"]) or parent not in (None, thread["parent"]):
            refuse("options-differ", thread_id)
        self.handles[handle["as"]] = thread

    def set_limit(self, thread_id, max_tokens):
        thread = self.get_or_create(thread_id)
        thread["max_tokens"] = max_tokens
        thread["opened"] = True
        triggered = thread["triggered"].items()
        thread["triggered"] = {percent: severity for percent, severity in triggered if is_reached(thread, percent)}
        thread["pending"] &= set(thread["triggered"])
        return usage(thread)

    def pending_warnings(self, thread_id):
        thread = self.threads.get(thread_id)
        return [] if thread is None else self.warnings(thread)

    def acknowledge_warnings(self, thread_id, acknowledgements):
        thread = self.threads.get(thread_id)
        for acknowledgement in acknowledgements if thread else []:
            if acknowledgement["max_tokens"] == thread["max_tokens"]:
                thread["pending"].discard(acknowledgement["threshold_percent"])

    def has_budget(self, thread_id):
        return thread_id in self.threads

    def get_usage(self, thread_id):
        thread = self.threads.get(thread_id)
        return None if thread is None else usage(thread)

    def get_all_usage(self):
        ascending = sorted(self.threads.items(), key=lambda entry: entry[0].encode())
        return [[thread_id, usage(thread)] for thread_id, thread in ascending]

    def held_tokens(self, thread_id):
        thread = self.threads.get(thread_id)
        return 0 if thread is None else self.held(thread)

    def reset_thread(self, thread_id):
        old = self.threads.get(thread_id)
        if old is None:
            return
        if old["opened"] or len(self.below(old)) > 1:
            limit = old["max_tokens"] if old["opened"] else self.limit
            self.threads[thread_id] = new_thread(thread_id, self.born(), limit, old["parent"], old["opened"])
        else:
            del self.threads[thread_id]
        self.hand_over(old, self.threads.get(old["parent"]))

    def cleanup_thread(self, thread_id):
        thread = self.threads.get(thread_id)
        if thread is None:
            return None
        gone = self.below(thread)
        for one in gone:
            del self.threads[one["thread_id"]]
        for one in gone:
            self.hand_over(one, self.threads.get(thread["parent"]))
        return {
            "usage": usage(thread),
            "percent_used": percent_used(thread),
            "triggered_thresholds": sorted(thread["triggered"]),
        }

    def clear(self):
        self.threads = {}

    def snapshot(self, after, limit):
        parents_first = sorted(self.threads.values(), key=lambda thread: len(self.path(thread)))
        states = [state_of(thread) for thread in parents_first]
        ids = [state["thread_id"] for state in states]
        first = 0 if after is None else ids.index(after) + 1
        return states[first : first + min(limit, MAX_BATCH)]

    def restore(self, states):
        before = dict(self.threads)
        try:
            for state in states:
                self.restore_one(state)
        except Refused:
            self.threads = before
            raise
        self.least_birth = max([self.least_birth] + [bounded(state["birth"] + 1) for state in states])
        self.next_birth = max(self.next_birth, self.least_birth)
        if self.told is not None:
            for state in states:
                self.told[state["thread_id"]] = copy.deepcopy(state_of(self.threads[state["thread_id"]]))

    def take_changes(self, limit):
        now = {thread_id: copy.deepcopy(state_of(thread)) for thread_id, thread in self.threads.items()}
        if self.told is None:
            self.told = now
        by_id = lambda thread_id: thread_id.encode()
        changed = sorted((one for one in now if self.told.get(one) != now[one]), key=by_id)
        gone = sorted((one for one in self.told if one not in now), key=by_id)
        most = min(limit, MAX_BATCH)
        changed, gone = changed[:most], gone[: max(most - len(changed), 0)]
        self.told.update({one: now[one] for one in changed})
        for one in gone:
            del self.told[one]
        return {"changed": [now[one] for one in changed], "gone": gone}

    def drop_tree(self, thread_id):
        if thread_id not in self.threads:
            return False
        for one in self.below(self.path(self.threads[thread_id])[-1]):
            del self.threads[one["thread_id"]]
            if self.told is not None:
                self.told.pop(one["thread_id"], None)
        return True

    def restore_one(self, state):
        check_thread_id(state["thread_id"])
        if state["thread_id"] in self.threads:
            refuse("invalid-state")
        thread = thread_of(state)
        if thread["parent"] is not None:
            self.check_parent(thread["thread_id"], thread["parent"])
        self.check_room_for_one()
        self.threads[thread["thread_id"]] = thread
        if not self.is_possible():
            refuse("invalid-state")

    def is_possible(self):
        """Whether what the threads hold, mark and remember goes together."""
        places = {}  # a name of a hold or a mark -> the one thread that has it
        names = {"holds": [], "lost": [], "request_ids": []}
        for thread in self.threads.values():
            for kind, known in names.items():
                known += names_of(thread, kind)
            for name in names_of(thread, "holds") + names_of(thread, "lost"):
                if places.setdefault(name, thread) is not thread:
                    return False
            ancestors = [one["thread_id"] for one in self.path(thread)]
            if any(one["made_for"] in ancestors for one in thread["holds"] + thread["lost"]):
                return False
            if self.held(thread) > MOST:
                return False
        each_once = all(len(set(known)) == len(known) for known in names.values())
        return each_once and not places.keys() & set(names["request_ids"])

    # The resource `thread-budget`: `on` is the vector's name for the handle.

    def thread_budget_thread_id(self, on):
        return self.handles[on]["thread_id"]

    def thread_budget_usage(self, on):
        return usage(self.handles[on])

    def thread_budget_percent_used(self, on):
        return percent_used(self.handles[on])

    def thread_budget_is_exhausted(self, on):
        return total(self.handles[on]) >= self.handles[on]["max_tokens"]

    def thread_budget_held_tokens(self, on):
        return self.held(self.handles[on])

    def thread_budget_is_detached(self, on):
        return self.is_detached(self.handles[on])

    def thread_budget_can_consume(self, on, estimated_tokens):
        path = self.path(self.handles[on])
        return all(total(one) + self.held(one) + estimated_tokens <= one["max_tokens"] for one in path)

    def thread_budget_consume(self, on, prompt_tokens, completion_tokens):
        return self.record(self.handles[on], prompt_tokens, completion_tokens)

    def thread_budget_triggered_thresholds(self, on):
        return sorted(self.handles[on]["triggered"])

    def thread_budget_check_thresholds(self, on, thresholds):
        return self.cross(self.handles[on], {one["percent"]: one["severity"] for one in thresholds})

    # The interface `warnings`.

    def budget_warning(self, crossed):
        return warning_of(crossed)


# Vectors.


def portable(value):
    """A result as vectors write it."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if isinstance(value, int) and value > LARGEST_PORTABLE:
        return str(value)
    return value


def numbers_of(value):
    """An argument, with the counts that vectors write as text put back."""
    if isinstance(value, dict):
        return {key: numbers_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers_of(item) for item in value]
    if isinstance(value, str) and value.isascii() and value.isdigit() and int(value) > LARGEST_PORTABLE:
        return int(value)
    return value


def outcomes(vector):
    """What comes of each step: the step, `returns` or `fails`, and the value."""
    registry = Registry()
    return [(step, *registry.put(numbers_of(step))) for step in vector["steps"]]


def failures(path):
    vector = json.loads(path.read_text("utf-8"))
    for number, (step, kind, value) in enumerate(outcomes(vector), 1):
        expected = ("fails", step["fails"]) if "fails" in step else ("returns", step.get("returns"))
        at = f"{path} step {number}\n  rule      {vector['rule']}\n"
        if json.dumps(expected, sort_keys=True) != json.dumps((kind, value), sort_keys=True):
            yield f"{at}  expected  {expected}\n  got       {(kind, value)}"
        if step["call"] == "snapshot" and not is_line(value):
            yield f"{at}  asks for an order of threads that the contract leaves open"


def is_line(states):
    """Whether each state after the first is of a child of the one before."""
    return all(state["parent"] == before["thread_id"] for before, state in zip(states, states[1:]))


def bless(path):
    """Write what comes of the steps. `returns` null is written only where it stood."""
    vector = json.loads(path.read_text("utf-8"))
    steps = []
    for step, kind, value in outcomes(vector):
        call = {name: field for name, field in step.items() if name not in ("returns", "fails")}
        says_null = "returns" in step and step["returns"] is None
        steps.append(call if value is None and not says_null else {**call, kind: value})
    lines = ",\n".join("    " + compact(step) for step in steps)
    path.write_text(f'{{\n  "rule": {compact(vector["rule"])},\n  "steps": [\n{lines}\n  ]\n}}\n', "utf-8")


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main(arguments):
    if arguments == ["--check"]:
        paths = sorted(Path(__file__).parent.glob("*/*.json"))
        found = [failure for path in paths for failure in failures(path)]
        print("\n\n".join(found + [f"{len(paths)} vectors, {len(found)} failures"]))
        return 1 if found or not paths else 0
    if arguments[:1] == ["--bless"] and arguments[1:]:
        for name in arguments[1:]:
            bless(Path(name))
        return 0
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    for name in arguments:
        for step, kind, value in outcomes(json.loads(Path(name).read_text("utf-8"))):
            print(step["call"], kind, compact(value))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
