"""Find the credential that a failure is about."""

from __future__ import annotations

from collections.abc import Iterator
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
    from rxauth.credentials._credential import Credential

    for part in _parts(failure):
        credential = field(part, "credential")
        if isinstance(credential, Credential):
            return credential
    for part in _parts(failure):
        for owner in (field(field(part, "response"), "request"), field(part, "request"), field(part, "request_info")):
            token = _token_in(field(owner, "headers"))
            if token is not None and token.isascii() and token.isprintable():
                return Credential(token)
    return None


def _parts(failure: object) -> Iterator[Any]:
    found = leaves(failure)
    for leaf in found:
        # An event of rxauth's sources has it here: when thousands fail together, none is read whole for that.
        yield from (leaf, field(leaf, "cause"))
    for leaf in found:
        yield from Reading(leaf).parts


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
