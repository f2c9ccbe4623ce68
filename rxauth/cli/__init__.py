"""The command line: the only part of rxauth that prints.

Exit codes: 0 done, 1 the stream ended in an error, 2 usage or a credential file that cannot be used, 3 login required,
130 interrupted, 143 terminated.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rxauth.cli import screen
from rxauth.cli.exits import DONE, FAILED, INTERRUPTED, USAGE, CommandError
from rxauth.cli.running import InUse
from rxauth.credentials import finish_refreshes, is_refreshing

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv`, by default in `sys.argv[1:]`, and return its exit code.

    A second Ctrl-C ends the wait for a token request that the first one left under way.
    """
    screen.prepare_streams()
    in_use = InUse()
    try:
        code = _run(argv, in_use)
        finish_refreshes()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as leaving:  # SIGTERM during that wait
        return _code_of(leaving)
    if lost := in_use.lost_login():
        screen.complain(lost)
        return USAGE if code in (DONE, FAILED) else code
    return code


def _run(argv: Sequence[str] | None, in_use: InUse) -> int:
    from rxauth.cli.parser import parse
    from rxauth.cli.printed import process_start

    try:
        args = parse(argv)
        args.in_use = in_use
        args.started = process_start() if argv is None else time.time()
        code: int = args.run(args)
    except KeyboardInterrupt:
        screen.complain_on_new_line(
            "A token refresh is finished first, so that the login is not lost; Ctrl-C again leaves at once."
            if is_refreshing()
            else ""
        )
        return INTERRUPTED
    except SystemExit as leaving:  # SIGTERM; --help and --version
        return _code_of(leaving)
    except CommandError as error:
        screen.complain(str(error))
        return error.code
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        return DONE
    return code


def _code_of(leaving: SystemExit) -> int:
    return leaving.code if isinstance(leaving.code, int) else FAILED
