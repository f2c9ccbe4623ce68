"""What an error reporter tells of an exception."""

from __future__ import annotations

import traceback

__all__ = ["told_with_variables"]


def told_with_variables(error: BaseException) -> str:
    """The traceback, with the local variables of its frames but for the outermost: that is the test's own."""
    assert error.__traceback__ is not None
    told = traceback.TracebackException(type(error), error, error.__traceback__.tb_next, capture_locals=True)
    return "".join(told.format())
