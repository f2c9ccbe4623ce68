"""Record the requests of the fake provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec
from multidict import CIMultiDict

_SECRET = frozenset({"authorization", "x-api-key", "proxy-authorization", "cookie"})


class Headers(CIMultiDict[str]):
    """Hold headers by name, in any case. `repr` shows no secret.

    >>> Headers({"Authorization": "Bearer secret", "Accept": "*/*"})
    Headers(Authorization: ..., Accept: */*)
    """

    def __repr__(self) -> str:
        shown = (f"{name}: {'...' if name.lower() in _SECRET else value}" for name, value in self.items())
        return f"Headers({', '.join(shown)})"

    __str__ = __repr__


@dataclass(eq=False, kw_only=True, repr=False)
class SeenRequest:
    """Record one request, and what became of it.

    Args:
        number: 1 for the first request that the provider saw.
        method: as sent.
        path: without the query.
        query: the raw query, without `?`.
        headers: by name, in any case.
        body: its bytes.
        at: when it was complete, in seconds of the server's event loop's clock.
        status: the HTTP status that was sent, `None` as long as none was.
        finished: whether the server is done with it.
        client_closed: whether the client left before that.
    """

    number: int
    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    at: float
    status: int | None = None
    finished: bool = False
    client_closed: bool = False

    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)

    def form(self) -> dict[str, list[str]]:
        """The body as a form, every value of a name in order."""
        return parse_qs(self.body.decode(errors="replace"), keep_blank_values=True)

    @property
    def token(self) -> str | None:
        """The credential it came with: from `Authorization: Bearer`, else from `x-api-key`."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return token.strip()
        return self.headers.get("x-api-key")

    def __repr__(self) -> str:
        fate = [str(self.status) if self.status is not None else "no answer"]
        fate += ["client closed"] if self.client_closed else [] if self.finished else ["under way"]
        return f"SeenRequest({self.method} {self.path}, {', '.join(fate)})"
