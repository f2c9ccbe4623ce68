"""Check and encode a request before there is a connection."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from rxauth._version import __version__
from rxauth.addresses import checked_url

if TYPE_CHECKING:
    from rxauth.credentials import Credential

AuthHeader: TypeAlias = Literal["authorization", "x-api-key"]

MAX_EVENT_BYTES = 16 * 2**20

_TOKEN_HEADERS = frozenset({"authorization", "x-api-key", "proxy-authorization"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, kw_only=True)
class Call:
    """Hold a request, as each subscription sends it. Times in seconds."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    auth_header: AuthHeader
    connect_timeout: float | None
    read_timeout: float | None
    max_event_bytes: int

    def __post_init__(self) -> None:
        if self.auth_header not in ("authorization", "x-api-key"):
            raise ValueError("auth_header is 'authorization' or 'x-api-key'.")
        for name in ("connect_timeout", "read_timeout"):
            limit = getattr(self, name)
            if limit is not None and not (limit > 0 and math.isfinite(limit)):
                raise ValueError(f"{name} is {limit!r}; it is a number of seconds above 0, or None for no limit.")
        if self.max_event_bytes < 1:
            raise ValueError(f"max_event_bytes is {self.max_event_bytes!r}; it is at least 1.")

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def headers_with(self, credential: Credential) -> dict[str, str]:
        """Return the headers with the token.

        Called only to send them: some tools report the exception of a consumer with the local variables of its stream.
        """
        token = credential.access_token
        value = token if self.auth_header == "x-api-key" else f"Bearer {token}"
        return {**self.headers, self.auth_header: value}


def endpoint(base_url: str, path: str) -> str:
    if "?" in checked_url(base_url, "base_url"):
        raise ValueError("base_url must not have a query: the path of the request is appended to it.")
    return base_url.rstrip("/") + path


def encoded(request: Mapping[str, Any], added: Mapping[str, Any]) -> bytes:
    """Encode a request for a stream, with the fields of `added` that it does not have."""
    if not isinstance(request, Mapping):
        raise TypeError(f"request is {type(request).__name__}; it is the wire payload, a mapping.")
    if request.get("stream") not in (None, True):
        raise ValueError("The request says that it does not want a stream: leave `stream` out.")
    try:
        return msgspec.json.encode({**added, **request, "stream": True}, enc_hook=_as_dict)
    except UnicodeEncodeError:
        raise ValueError("The request holds text that is not Unicode: half a surrogate pair.") from None


def _as_dict(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"The request holds {type(value).__name__}, which is not JSON.")


def merged(fixed: Mapping[str, str], own: Mapping[Any, Any] | None) -> dict[str, str]:
    """Return the headers of a request but for the token's; `own` replace ours."""
    headers = {
        "accept": "text/event-stream",
        "accept-encoding": "identity",  # a compressed stream comes in lumps
        "content-type": "application/json",
        "user-agent": f"rxauth/{__version__}",
        **fixed,
    }
    for name, value in (own or {}).items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError("headers is a mapping of strings to strings.")
        if name.lower() in _TOKEN_HEADERS:
            raise ValueError(f"The header {name} carries the token: give it as credentials.")
        if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
            raise ValueError(f"The header {name!r} cannot be sent: names are tokens, values printable ASCII.")
        headers[name.lower()] = value
    return headers
