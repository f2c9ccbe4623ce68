"""Write to the terminal, or to the file or pipe in its place."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
from contextlib import suppress
from typing import TextIO

from rxauth.errors import RxAuthError


def prepare() -> None:
    """Make the standard streams usable, and show what the library logs for a person."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - open as long as the process lives
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="backslashreplace")  # characters that an encoding lacks
    # An odd credential file, an unsaved login.
    stores = "rxauth.credentials._stores"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("rxauth: %(message)s"))
    handler.addFilter(lambda record: record.name.startswith(stores) or record.levelno >= logging.ERROR)
    logging.getLogger("rxauth.credentials").handlers = [handler]


def write(text: str, end: str = "\n") -> None:
    """Write to standard output at once."""
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RxAuthError(f"The output cannot be written: {error.strerror}. Write it elsewhere.") from None


def complain(sentence: str) -> None:
    """Write one sentence to standard error."""
    aside(f"rxauth: {sentence}")


def aside(text: str, end: str = "\n") -> None:
    """Write to standard error."""
    with suppress(OSError):  # standard error is closed or full; the answer goes on without it
        print(text, end=end, file=sys.stderr, flush=True)


def width(out: TextIO) -> int:
    """Return the columns to fill: at most 80, fewer in a narrow terminal."""
    return min(80, max(40, shutil.get_terminal_size().columns)) if out.isatty() else 80


def can_erase(out: TextIO) -> bool:
    """Return whether `out` is a terminal that can erase a line."""
    return out.isatty() and os.environ.get("TERM") != "dumb"


def has_color(out: TextIO) -> bool:
    """Return whether `out` is a terminal that shows colors, and NO_COLOR does not forbid them."""
    return can_erase(out) and not os.environ.get("NO_COLOR")
