"""A credential as a JSON object with the names of RFC 6749 section 5.1, and `expires_at` in Unix seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rxauth.credentials._credential import Credential

__all__ = ["credential_from", "entry_from", "number"]

_NAMES = frozenset({"access_token", "refresh_token", "expires_at", "token_type", "scope"})

# What belongs to the credential and not to the place where it is kept: an old one must not stay behind a new login.
_PERSONAL = frozenset({"account_id", "expires_in", "id_token"})


def credential_from(entry: object) -> Credential:
    """The credential in `entry`; what is not of RFC 6749 goes into its `extra`.

    Raises:
        ValueError: there is none; what is said is free of secrets.
    """
    if not isinstance(entry, Mapping):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - a file's content, not a caller's argument
    access = entry.get("access_token")
    if not isinstance(access, str) or not access:
        raise ValueError("it has no access_token")
    refresh, kind, scope = entry.get("refresh_token"), entry.get("token_type"), entry.get("scope")
    try:
        return Credential(
            access,
            refresh_token=refresh if isinstance(refresh, str) else None,
            expires_at=number(entry.get("expires_at")),
            token_type=kind if isinstance(kind, str) and kind else "Bearer",
            scope=scope if isinstance(scope, str) else None,
            extra={name: value for name, value in entry.items() if name not in _NAMES},
        )
    except ValueError:
        raise ValueError("its access_token is not printable ASCII") from None


def entry_from(credential: Credential, kept: object = None) -> dict[str, Any]:
    """The object to store.

    Args:
        credential: what is to be stored.
        kept: the object that is stored now; fields of it that nobody here knows stay.
    """
    entry = dict(kept) if isinstance(kept, Mapping) else {}
    for name in _NAMES | _PERSONAL:
        entry.pop(name, None)
    told = {
        "access_token": credential.access_token,
        "refresh_token": credential.refresh_token,
        "expires_at": credential.expires_at,
        "token_type": credential.token_type,
        "scope": credential.scope,
    }
    return {
        **{name: value for name, value in told.items() if value is not None},
        **entry,
        **{name: value for name, value in credential.extra.items() if name not in _NAMES},
    }


def number(value: object) -> float | None:
    """What the file says, also as text; `None` for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
