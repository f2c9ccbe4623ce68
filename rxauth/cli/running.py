"""Run the work of a command, and say how it ended: exit codes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rxauth.errors import LoginRequired, StoreError

DONE, FAILED, USAGE, LOGIN_REQUIRED, INTERRUPTED = 0, 1, 2, 3, 130

T = TypeVar("T")


def exit_code(error: object) -> int:
    """Return the exit code for an error, or for another way to end."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case SystemExit(code=int() as code):  # SIGTERM; --help and --version
            return code
        case LoginRequired():
            return LOGIN_REQUIRED
        case StoreError() | ValueError():
            return USAGE
    return FAILED


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, without its wait for threads."""
    import asyncio

    class Loop(asyncio.SelectorEventLoop):
        async def shutdown_default_executor(self, *_: object) -> None:
            """Do not wait up to half a minute for a thread that resolves a name; the process ends without it."""

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


def run_without_loop(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine that seldom has to wait: it starts faster without asyncio."""
    work = function()
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    except RuntimeError:  # no running event loop: it has to wait
        pass
    work.close()
    return run(function())
