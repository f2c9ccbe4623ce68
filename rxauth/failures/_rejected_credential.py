"""Find the credential that a failure is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rxauth.errors import field
from rxauth.failures._reading import Reading, leaves

if TYPE_CHECKING:
    from rxauth.credentials._credential import Credential


def rejected_credential(failure: object) -> Credential | None:
    """Return the credential that a failure carries, or one made of the token in the headers of its request.

    rxauth's sources put the credential into the cause of an error event. An official SDK's exception has the request
    (`failure.response.request.headers`), with the token as `Authorization: Bearer` or `x-api-key`.

    Returns:
        `None` if the failure has neither.

    >>> from rxauth.credentials import Credential
    >>> from rxauth.errors import CredentialRejected
    >>> rejected_credential({"type": "error", "cause": CredentialRejected("no", credential=Credential("secret"))})
    Credential()
    """
    found = leaves(failure)
    # An event of rxauth's sources has it in its cause: when thousands fail together, none is read whole for that.
    credential = _attached_to([part for leaf in found for part in (leaf, field(leaf, "cause"))])
    if credential is not None:
        return credential
    parts = [part for leaf in found for part in Reading(leaf).parts]
    return _attached_to(parts) or _sent_with(parts)


def _attached_to(parts: list[Any]) -> Credential | None:
    from rxauth.credentials._credential import Credential

    attached = (field(part, "credential") for part in parts)
    return next((each for each in attached if isinstance(each, Credential)), None)


def _sent_with(parts: list[Any]) -> Credential | None:
    from rxauth.credentials._credential import Credential

    for part in parts:
        for owner in (field(field(part, "response"), "request"), field(part, "request"), field(part, "request_info")):
            token = None if owner is None else _token_in(field(owner, "headers"))
            if token is not None and token.isascii() and token.isprintable():
                return Credential(token)
    return None


def _token_in(headers: Any) -> str | None:
    try:
        values = {_text(name).lower(): _text(value).strip() for name, value in headers.items()}
    except Exception:  # not every `headers` is a mapping
        return None
    scheme, _, token = values.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return values.get("x-api-key") or None


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
