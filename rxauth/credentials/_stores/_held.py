"""Know whether this task is inside its own `locked()`: a save there must not wait for the lock that it holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["held_here", "holding", "lock_held_here"]


class _Hold:
    __slots__ = ("active", "lock", "outer", "store")

    def __init__(self, store: object, lock: object, outer: _Hold | None) -> None:
        self.store = store
        self.lock = lock
        self.outer = outer
        self.active = True


_innermost: ContextVar[_Hold | None] = ContextVar("rxauth_store_hold", default=None)


@contextlib.contextmanager
def holding(store: object, lock: object = None) -> Iterator[None]:
    """Make `held_here(store)` true inside, for this task and those it starts; afterwards for none of them.

    `lock_held_here(store)` then returns `lock`.
    """
    hold = _Hold(store, lock, _innermost.get())
    _innermost.set(hold)
    try:
        yield
    finally:
        # The flag and not the variable alone: a task that was started inside has a copy of the variable.
        hold.active = False
        if _innermost.get() is hold:
            _innermost.set(hold.outer)


def held_here(store: object) -> bool:
    """Return whether this task is inside `store.locked()`."""
    return _hold(store) is not None


def lock_held_here(store: object) -> Any:
    """Return the lock that `holding` was given; `None` outside."""
    hold = _hold(store)
    return None if hold is None else hold.lock


def _hold(store: object) -> _Hold | None:
    hold = _innermost.get()
    while hold is not None and not (hold.store is store and hold.active):
        hold = hold.outer
    return hold
