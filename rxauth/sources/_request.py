"""Check and encode a request before there is a connection."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from rxauth._version import __version__
from rxauth.addresses import checked_url

AuthHeader: TypeAlias = Literal["authorization", "x-api-key"]

MAX_EVENT_BYTES = 16 * 2**20

_TOKEN_HEADERS = frozenset({"authorization", "x-api-key", "proxy-authorization"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, kw_only=True)
class Call:
    """Hold a checked request, as each subscription sends it. Times in seconds."""

    url: str
    host: str
    body: bytes
    headers: Mapping[str, str]
    auth_header: AuthHeader
    connect_timeout: float | None
    read_timeout: float | None
    max_event_bytes: int


def prepared(
    request: Mapping[str, Any],
    added: Mapping[str, Any],
    *,
    base_url: str,
    path: str,
    fixed_headers: Mapping[str, str],
    headers: Mapping[str, str] | None,
    auth_header: AuthHeader,
    connect_timeout: float | None,
    read_timeout: float | None,
    max_event_bytes: int,
) -> Call:
    """Check a request and encode it.

    Raises:
        TypeError: `request` is not a mapping, or holds what JSON cannot.
        ValueError: the URL, a header or a limit cannot be used.
    """
    if auth_header not in ("authorization", "x-api-key"):
        raise ValueError("auth_header is 'authorization' or 'x-api-key'.")
    for name, limit in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            raise ValueError(f"{name} is {limit!r}; it is a number of seconds above 0, or None for no limit.")
    if max_event_bytes < 1:
        raise ValueError(f"max_event_bytes is {max_event_bytes!r}; it is at least 1.")
    url = _endpoint(base_url, path)
    return Call(
        url=url,
        host=urlsplit(url).netloc,
        body=_encoded(request, added),
        headers=_merged(fixed_headers, headers or {}),
        auth_header=auth_header,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_event_bytes=max_event_bytes,
    )


def _endpoint(base_url: str, path: str) -> str:
    if "?" in checked_url(base_url, "base_url"):
        raise ValueError("base_url must not have a query: the path of the request is appended to it.")
    return base_url.rstrip("/") + path


def _encoded(request: Mapping[str, Any], added: Mapping[str, Any]) -> bytes:
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


def _merged(fixed: Mapping[str, str], own: Mapping[Any, Any]) -> dict[str, str]:
    merged = {
        "accept": "text/event-stream",
        "accept-encoding": "identity",  # a compressed stream comes in lumps
        "content-type": "application/json",
        "user-agent": f"rxauth/{__version__}",
        **fixed,
    }
    for name, value in own.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError("headers is a mapping of strings to strings.")
        if name.lower() in _TOKEN_HEADERS:
            raise ValueError(f"The header {name} carries the token: give it as credentials.")
        if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
            raise ValueError(f"The header {name!r} cannot be sent: names are tokens, values printable ASCII.")
        merged[name.lower()] = value
    return merged
