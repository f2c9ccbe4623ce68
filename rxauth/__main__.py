"""Run `rxauth`, and `python -m rxauth`, as a process."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> NoReturn:
    """Run a command and end the process.

    `os._exit` does not wait for a thread that still resolves a name, and a late Ctrl-C cannot print a traceback.
    """
    code: int = 130
    with suppress(KeyboardInterrupt):
        # By default SIGTERM runs no Python: a token request under way would be lost, and the login with it.
        signal.signal(signal.SIGTERM, _terminate)
        from rxauth.cli import main as run

        code = run()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError, KeyboardInterrupt):
            stream.flush()
    os._exit(code)


def _terminate(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
