"""`rxauth`, and `python -m rxauth`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Run a command, and leave: no thread that still resolves a name holds it up, no second Ctrl-C tears it apart."""
    try:
        from rxauth.cli import main as run

        code: int | str | None = run()
    except KeyboardInterrupt:  # before the command could see to it, or while it did
        code = INTERRUPTED
    except SystemExit as leaving:
        code = leaving.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
