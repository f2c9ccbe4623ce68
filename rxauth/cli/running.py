"""Run coroutines for a command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from rxauth.cli import screen
from rxauth.cli.exits import DONE, USAGE

if TYPE_CHECKING:
    from rxauth.cli.logins import Logins
    from rxauth.credentials import CredentialSource

__all__ = ["finish", "run", "run_without_loop"]

T = TypeVar("T")


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


def finish(source: CredentialSource, logins: Logins) -> int:
    """Finish refreshes under way; return the exit code, and say so if a renewed login could not be stored."""
    from rxauth.credentials import finish_refreshes

    finish_refreshes()
    unsaved = getattr(source, "unsaved", None)
    if unsaved is None:
        return DONE
    screen.complain(f"The renewed login is lost, because it could not be stored. {unsaved} {logins.next_action()}")
    return USAGE


def show_remarks() -> None:
    """Write to standard error what the library logs for a person: an odd credential file, an unsaved login."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("rxauth: %(message)s"))
    handler.addFilter(lambda record: record.name.startswith(_STORES) or record.levelno >= logging.ERROR)
    logging.getLogger("rxauth.credentials").handlers = [handler]


_STORES = "rxauth.credentials._stores"
