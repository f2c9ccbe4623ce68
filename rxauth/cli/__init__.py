"""The command line: the only part of rxauth that prints.

An error of the library, and a ValueError, becomes one sentence on standard error and an exit code, in `main`.
Exit codes: 0 done, 1 the stream ended in an error, 2 usage or a credential file that cannot be used, 3 login required,
130 interrupted, 143 terminated.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module

from rxauth.cli import screen
from rxauth.cli.running import DONE, FAILED, USAGE, exit_code
from rxauth.credentials import finish_refreshes, is_refreshing
from rxauth.errors import RxAuthError

__all__ = ["main"]


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
