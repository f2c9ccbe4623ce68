"""Where the command line keeps its state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rxauth.errors import StoreError

__all__ = ["home"]


def home(environ: Mapping[str, str]) -> Path:
    """Return `$RXAUTH_HOME`, else `~/.rxauth`.

    Raises:
        StoreError: the user has no home directory.
    """
    named = environ.get("RXAUTH_HOME") or "~/.rxauth"
    try:
        return Path(named).expanduser()
    except RuntimeError:
        raise StoreError(f"There is no home directory for {named}. Set RXAUTH_HOME to a directory.") from None
