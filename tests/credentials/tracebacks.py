"""Show an exception as an error reporter does."""

from __future__ import annotations

import traceback

__all__ = ["with_variables"]


def with_variables(error: BaseException) -> str:
    """Return the traceback with the local variables of its frames; the outermost is the test's own, and left out."""
    assert error.__traceback__ is not None
    shown = traceback.TracebackException(type(error), error, error.__traceback__.tb_next, capture_locals=True)
    return "".join(shown.format())
