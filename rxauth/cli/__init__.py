"""The command line: the only part of rxauth that prints.

An error of the library, and a ValueError, becomes one sentence on standard error and an exit code, in `main`.
Exit codes: 0 done, 1 an error of the stream or the network, 2 usage or a credential file that cannot be used, 3 login
required, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any, TypeVar

from rxauth.cli import screen
from rxauth.credentials import finish_refreshes, is_refreshing
from rxauth.errors import LoginRequired, RxAuthError, StoreError

__all__ = ["main"]

DONE, FAILED, USAGE, LOGIN_REQUIRED, INTERRUPTED = 0, 1, 2, 3, 130

T = TypeVar("T")


def main(argv: Sequence[str] | None = None, *, pace: float = 1.0) -> int:
    """Run a command, and return its exit code.

    A second Ctrl-C ends the wait for a token request that the first one left under way.

    Args:
        argv: the arguments; by default those of the process.
        pace: the factor of every pause that the command makes; 0 for a test.
    """
    screen.prepare()
    args = Namespace(argv=argv, pace=pace, logins=None, account=None, credentials=None, header=())
    try:
        code = _run(args)
        finish_refreshes()
    except (KeyboardInterrupt, SystemExit) as leaving:  # during that wait
        return exit_code(leaving)
    if args.logins is not None and (sentence := args.logins.lost_login()):
        screen.complain(sentence)
        return USAGE if code in (DONE, FAILED) else code
    return code


def _run(args: Namespace) -> int:
    from rxauth.cli.parser import parse

    try:
        parse(args)
        # Not before the arguments are known to be good: to import a command takes longer than to parse them.
        code: int = getattr(import_module(f"rxauth.cli.{args.module}"), args.function)(args)
    except KeyboardInterrupt as leaving:
        screen.aside("")  # below the line that shows ^C
        if is_refreshing():
            screen.complain(
                "A token refresh is finished first, so that the login is not lost; Ctrl-C again leaves at once."
            )
        return exit_code(leaving)
    except SystemExit as leaving:
        return exit_code(leaving)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        return DONE
    except (RxAuthError, ValueError) as error:
        screen.complain(str(error))
        return exit_code(error)
    return code


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
