"""The operators: they share nothing but Rx's error channel, so Rx's own fit between them."""

from rxauth.operators._buffer_until_live import buffer_until_live
from rxauth.operators._flush_on_complete_or_error import flush_on_complete_or_error
from rxauth.operators._recover_auth import recover_auth
from rxauth.operators._retry_on_first_auth_error import retry_on_first_auth_error
from rxauth.operators._switch_if_never_live import switch_if_never_live

__all__ = [
    "buffer_until_live",
    "flush_on_complete_or_error",
    "recover_auth",
    "retry_on_first_auth_error",
    "switch_if_never_live",
]
