"""Know whether this task is inside its own `locked()`: a save there must not wait for the lock that it holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["held_here", "holding", "lock_held_here"]


class _Hold:
    def __init__(self, store: object, lock: object) -> None:
        self.store = store
        self.lock = lock


_holds: ContextVar[tuple[_Hold, ...]] = ContextVar("rxauth_store_holds", default=())


@contextlib.contextmanager
def holding(store: object, lock: object = None) -> Iterator[None]:
    """Make `held_here(store)` true inside, for this task and those it starts; afterwards for none of them.

    `lock_held_here(store)` then returns `lock`.
    """
    hold = _Hold(store, lock)
    _holds.set((*_holds.get(), hold))
    try:
        yield
    finally:
        # Not the variable alone: a task that was started inside has a copy of it.
        hold.store = hold.lock = None
        _holds.set(tuple(each for each in _holds.get() if each is not hold))


def held_here(store: object) -> bool:
    """Return whether this task is inside `store.locked()`."""
    return any(hold.store is store for hold in _holds.get())


def lock_held_here(store: object) -> Any:
    """Return the lock that `holding` was given; `None` outside."""
    return next((hold.lock for hold in reversed(_holds.get()) if hold.store is store), None)
