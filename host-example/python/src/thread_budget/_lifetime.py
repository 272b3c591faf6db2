"""When C memory is freed: once nothing refers to it any more, and not before.

The garbage collector runs the finalisers of a cycle in any order, and interpreters end in any order. A finaliser that
frees a store may so run before another one that still calls it, which is a crash. The collector can only do that to
objects that it tracks. So memory hangs on a token that it does not track: reference counting alone ends it, when the
last object that refers to it is gone and its finaliser has run.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import CodeType

Token = CodeType
"""Who uses the memory refers to this. Of Python's types, code is the one that is untracked and can be watched."""

_TEMPLATE = compile("None", "token", "eval")
_watched: dict[int, weakref.ref[Token]] = {}

if gc.is_tracked(_TEMPLATE):
    raise ImportError("thread_budget needs a CPython whose garbage collector does not track code objects")


def token(free: Callable[[], object]) -> Token:
    """A token that calls `free` at its end, in any thread, between any two steps of Python."""
    token = _TEMPLATE.replace()

    def end(reference: weakref.ref[Token]) -> None:
        del watched[id(reference)]
        free()

    # A local name, since those of the module may be gone when the interpreter ends.
    watched = _watched
    reference = weakref.ref(token, end)
    watched[id(reference)] = reference
    return token
