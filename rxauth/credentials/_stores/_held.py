"""Know whether this task is inside a store's `locked()`: a save there must not wait for the lock that it holds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any


class _Hold:
    def __init__(self, store: object, lock: object) -> None:
        self.store = store
        self.lock = lock


_holds: ContextVar[tuple[_Hold, ...]] = ContextVar("rxauth_store_holds", default=())


@contextlib.contextmanager
def holding(store: object, lock: object) -> Iterator[None]:
    """Make `held(store)` return `lock` inside, for this task and those it starts; afterwards for none of them."""
    hold = _Hold(store, lock)
    _holds.set((*_holds.get(), hold))
    try:
        yield
    finally:
        # Not the variable alone: a task that was started inside has a copy of it.
        hold.store = hold.lock = None
        _holds.set(tuple(each for each in _holds.get() if each is not hold))


def held(store: object) -> Any:
    """Return the lock of `store` that this task holds; `None` outside of `store.locked()`."""
    return next((hold.lock for hold in _holds.get() if hold.store is store), None)


@contextlib.asynccontextmanager
async def locked_once(store: Any) -> AsyncIterator[Any]:
    """Take the store's lock, unless this task holds it, and give out what `held(store)` returns."""
    async with contextlib.nullcontext() if held(store) is not None else store.locked():
        yield held(store)
