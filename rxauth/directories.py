"""Find the directories in which programs keep their state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["directory_from", "rxauth_home"]


def directory_from(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """Return the directory that an environment variable names, `~` expanded; else `default` in the user's home.

    >>> directory_from({"HOME": "/home/ann"}, "KIMI_CODE_HOME", ".kimi-code").as_posix()
    '/home/ann/.kimi-code'

    Raises:
        RuntimeError: the user has no home directory.
    """
    named = environ.get(variable) or f"~/{default}"
    # `$HOME` first, as Node does it.
    if environ.get("HOME") and (named == "~" or named.startswith("~/")):
        return Path(environ["HOME"], named[2:])
    return Path(named).expanduser()


def rxauth_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return `$RXAUTH_HOME`, else `~/.rxauth`.

    Raises:
        RuntimeError: the user has no home directory.
    """
    return directory_from(environ, "RXAUTH_HOME", ".rxauth")
