"""The operators: they share nothing but Rx's error channel, so Rx's own fit between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rxauth.operators._buffer_until_live import buffer_until_live
from rxauth.operators._flush_on_complete_or_error import flush_on_complete_or_error
from rxauth.operators._recover_auth import recover_auth
from rxauth.operators._retry_on_first_auth_error import retry_on_first_auth_error
from rxauth.operators._switch_if_never_live import switch_if_never_live

if TYPE_CHECKING:
    from rxauth.operators._suppress_empty_response import suppress_empty_response

__all__ = [
    "buffer_until_live",
    "flush_on_complete_or_error",
    "recover_auth",
    "retry_on_first_auth_error",
    "switch_if_never_live",
    "suppress_empty_response",
]


def __getattr__(name: str) -> Any:
    # The one operator that knows rxauth's own events; the others do not pay for their import.
    if name == "suppress_empty_response":
        from rxauth.operators._suppress_empty_response import suppress_empty_response

        return suppress_empty_response
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
