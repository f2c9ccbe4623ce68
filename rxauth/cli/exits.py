"""Exit codes, and how an error becomes one sentence and a code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DONE", "FAILED", "INTERRUPTED", "LOGIN_REQUIRED", "USAGE", "CommandError", "exit_code", "sentences"]

DONE, FAILED, USAGE, LOGIN_REQUIRED, INTERRUPTED = 0, 1, 2, 3, 130


class CommandError(Exception):
    """One sentence for a person, and the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def exit_code(error: object) -> int:
    """Return the exit code for an error."""
    from rxauth.errors import LoginRequired, StoreError

    if isinstance(error, LoginRequired):
        return LOGIN_REQUIRED
    return USAGE if isinstance(error, StoreError | ValueError) else FAILED


@contextmanager
def sentences() -> Iterator[None]:
    """Turn errors of the library, and values that it refuses, into a CommandError."""
    from rxauth.errors import RxAuthError

    try:
        yield
    except (RxAuthError, ValueError) as error:
        raise CommandError(str(error), exit_code(error)) from None
