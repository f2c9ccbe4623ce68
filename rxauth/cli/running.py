"""Run coroutines for a command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rxauth.credentials import CredentialSource

__all__ = ["InUse", "run", "run_without_loop"]

T = TypeVar("T")


class InUse:
    """The credentials that a command uses."""

    def __init__(self) -> None:
        self.source: CredentialSource | None = None
        self.next_action = ""

    def lost_login(self) -> str | None:
        """Return a sentence if the login was renewed, but the new one could not be stored before the process ends."""
        unsaved = getattr(self.source, "unsaved", None)
        if unsaved is None:
            return None
        return f"The renewed login is lost, because it could not be stored. {unsaved} {self.next_action}"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, without its wait for threads."""
    import asyncio

    class Loop(asyncio.SelectorEventLoop):
        async def shutdown_default_executor(self, *_: object) -> None:
            """Do not wait up to half a minute for a thread that resolves a name; the process ends without it."""

    show_remarks()
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


def run_without_loop(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine that seldom has to wait: it starts faster without asyncio."""
    show_remarks()
    work = function()
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    except RuntimeError:  # no running event loop: it has to wait
        return run(function())
    work.close()
    return run(function())


def show_remarks() -> None:
    """Write to standard error what the library logs for a person: an odd credential file, an unsaved login."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("rxauth: %(message)s"))
    handler.addFilter(lambda record: record.name.startswith(_STORES) or record.levelno >= logging.ERROR)
    logging.getLogger("rxauth.credentials").handlers = [handler]


_STORES = "rxauth.credentials._stores"
