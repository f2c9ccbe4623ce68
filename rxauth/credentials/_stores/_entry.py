"""A credential as a JSON object with the names of RFC 6749 section 5.1, and `expires_at` in Unix seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rxauth.credentials._credential import Credential, unix_seconds

_STANDARD = frozenset({"access_token", "refresh_token", "expires_at", "token_type", "scope"})

# These belong to a login and not to the file: one login's must not stay under the next one's tokens.
OF_ONE_LOGIN = frozenset({"account_id", "expires_in", "id_token", "retry_at", "token_url"})


def credential_from(entry: object) -> Credential:
    """Return the credential in `entry`, with all fields that RFC 6749 does not name in its `extra`.

    Raises:
        ValueError: it holds none; the text can follow a colon and has no secret.
    """
    if not isinstance(entry, Mapping):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - a file's content, not a caller's argument
    access, expires_at = entry.get("access_token"), number(entry.get("expires_at"))
    if not isinstance(access, str) or not access:
        raise ValueError("it has no access_token")
    refresh, kind, scope = entry.get("refresh_token"), entry.get("token_type"), entry.get("scope")
    try:
        return Credential(
            access,
            refresh_token=refresh if isinstance(refresh, str) else None,
            expires_at=None if expires_at is None else unix_seconds(expires_at),
            token_type=kind if isinstance(kind, str) and kind else "Bearer",
            scope=scope if isinstance(scope, str) else None,
            extra={name: value for name, value in entry.items() if name not in _STANDARD and name != "retry_at"},
        )
    except ValueError:
        raise ValueError("its access_token is not printable ASCII") from None


def entry_from(credential: Credential, kept: object = None) -> dict[str, Any]:
    """Return the object to store for `credential`, in the order and with the unknown fields of `kept`."""
    at = credential.expires_at
    standard = {
        "access_token": credential.access_token,
        "refresh_token": credential.refresh_token,
        "expires_at": int(at) if at is not None and at.is_integer() else at,
        "token_type": credential.token_type,
        "scope": credential.scope,
    }
    fields = {name: value for name, value in standard.items() if value is not None}
    before = kept if isinstance(kept, Mapping) else {}
    unknown = {name: value for name, value in before.items() if name not in _STANDARD | OF_ONE_LOGIN}
    extra = {name: value for name, value in credential.extra.items() if name not in _STANDARD}
    return in_order(before, fields | unknown | extra)


def with_extra(credential: Credential, extra: Mapping[str, Any]) -> Credential:
    """Return the same credential with other extra fields."""
    return Credential(
        credential.access_token,
        credential.refresh_token,
        credential.expires_at,
        credential.token_type,
        credential.scope,
        extra,
    )


def in_order(before: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `fields` with those that are in `before` first, in its order."""
    return {name: fields[name] for name in before if name in fields} | dict(fields)


def number(value: object) -> float | None:
    """Return a number, also one written as text; `None` if it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
