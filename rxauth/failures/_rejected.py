"""Which credential was rejected, as far as a failure says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rxauth.errors import NeverLiveError

if TYPE_CHECKING:
    from rxauth.credentials._credential import Credential


def rejected_credential(failure: object) -> Credential | None:
    """The credential that a failure names, or what is known of it: the token in the headers of its request.

    rxauth's sources put the credential into the cause of an error event. An official SDK's exception has the request
    (`failure.response.request.headers`), with the token as `Authorization: Bearer` or `x-api-key`.

    Returns:
        `None` if the failure says nothing of it.

    >>> from rxauth.credentials import Credential
    >>> from rxauth.errors import CredentialRejected
    >>> rejected_credential({"type": "error", "cause": CredentialRejected("no", credential=Credential("secret"))})
    Credential()
    """
    from rxauth.credentials._credential import Credential

    parts = list(_parts(failure))
    for part in parts:
        credential = _get(part, "credential")
        if isinstance(credential, Credential):
            return credential
    for part in parts:
        for owner in (_get(_get(part, "response"), "request"), _get(part, "request"), _get(part, "request_info")):
            token = _token_in(_get(owner, "headers"))
            if token is not None and token.isascii() and token.isprintable():
                return Credential(token)
    return None


def _parts(failure: object) -> Iterator[object]:
    """The failure and what it wraps, each once."""
    waiting, seen = [failure], set[int]()
    while waiting and len(seen) < 32:
        part = waiting.pop(0)
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting.extend((part.failure if isinstance(part, NeverLiveError) else None, _get(part, "cause")))
        waiting.extend((_get(part, "error"), getattr(part, "__cause__", None)))


def _token_in(headers: object) -> str | None:
    if headers is None:
        return None
    try:
        items = [(_text(name).lower(), _text(value)) for name, value in headers.items()]  # type: ignore[attr-defined]
    except Exception:  # no headers, or somebody's idea of them
        return None
    for name, value in items:
        if name == "authorization":
            scheme, _, token = value.strip().partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return token.strip()
    return next((value.strip() for name, value in items if name == "x-api-key" and value.strip()), None)


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _get(value: object, name: str) -> Any:
    if value is None:  # most often, and to ask an abstract class costs more than the rest
        return None
    if isinstance(value, Mapping):
        return value.get(name)
    try:
        return getattr(value, name, None)
    except Exception:  # a property that raises; httpx's `request` does
        return None
