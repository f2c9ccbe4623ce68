"""Authenticate the requests of other HTTP clients, httpx, httpx2 and aiohttp, with one login.

    http_client = httpx2.AsyncClient(auth=httpx_auth(credentials))                    the SDKs' `http_client`
    session = aiohttp.ClientSession(middlewares=[aiohttp_middleware(credentials)])

Both put the current token into each request. A response that refuses the token costs one refresh, shared with all other
clients and streams of the same credentials, and the request is sent once more, if its body can be sent again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from rxauth.addresses import checked_url
from rxauth.credentials import Credential, CredentialSource
from rxauth.errors import CredentialError, CredentialRejected
from rxauth.failures import Judge, is_auth_error

if TYPE_CHECKING:
    import aiohttp

__all__ = ["aiohttp_middleware", "httpx_auth"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_AUTHORIZATION = "Authorization"
_REFUSALS = frozenset({400, 401, 403})  # the statuses of a stale token; the body decides between them
_LONGEST_BODY = 65536  # bytes of a refusal that are read to judge it


def httpx_auth(credentials: CredentialSource, *, is_auth_error: Judge = is_auth_error) -> Any:
    """Return an `auth` that signs the requests of an `httpx` or `httpx2` client, and refreshes a refused token.

    Of an asynchronous or a synchronous client; with an official SDK, whose own key it replaces:

        http_client = httpx2.AsyncClient(auth=httpx_auth(credentials), timeout=600)
        client = AsyncOpenAI(api_key="unused", http_client=http_client)
        client = AsyncAnthropic(auth_token="unused", http_client=http_client)

    A refused request is sent once more unless its body can be read only once (a generator, an open file). If the
    refresh fails, the client gets the server's refusal, and the reason is logged as a warning. A stream that fails
    after its headers is not sent again: pipe it through `recover_auth`.

    Args:
        credentials: one source for any number of clients, loops and threads.
        is_auth_error: whether a response with status 400, 401 or 403 refuses the token; it is judged with its body.

    Returns:
        An instance of `httpx.Auth` and `httpx2.Auth`, of those that are installed.

    Raises:
        ImportError: neither is installed.

    A request raises what `credentials.current` and `credentials.refresh` raise, such as `LoginRequired`, and
    `ValueError` before a token would leave this machine without TLS.
    """
    bases = tuple(module.Auth for module in map(_installed, ("httpx", "httpx2")) if module is not None)
    if not bases:
        raise ImportError("httpx_auth needs httpx or httpx2: install one of them.")
    return type("RxAuth", (_HttpxAuth, *bases), {})(credentials, is_auth_error)


class _HttpxAuth:
    """Sign the requests of a client; `httpx_auth` adds the base classes that the clients check for."""

    def __init__(self, credentials: CredentialSource, judge: Judge) -> None:
        self._credentials = credentials
        self._judge = judge

    def __repr__(self) -> str:
        return f"httpx_auth({self._credentials!r})"

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        credential = await self._credentials.current()
        response = yield _signed(request, credential)
        if _may_be_sent_again(request, response):
            body = await response.aread()
            renewed = await _renewed(self._credentials, self._judge, credential, response.status_code, body)
            if renewed is not None:
                yield _signed(request, renewed)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        credential = _wait_for(self._credentials.current())
        response = yield _signed(request, credential)
        if _may_be_sent_again(request, response):
            body = response.read()
            renewed = _wait_for(_renewed(self._credentials, self._judge, credential, response.status_code, body))
            if renewed is not None:
                yield _signed(request, renewed)


def _signed(request: Any, credential: Credential) -> Any:
    checked_url(str(request.url.copy_with(username=None, password=None, fragment=None)), "The request's URL")
    request.headers[_AUTHORIZATION] = f"Bearer {credential.access_token}"
    return request


def _may_be_sent_again(request: Any, response: Any) -> bool:
    """Return whether the token may be refused, and httpx can read the body again: no generator, no open file."""
    # httpx sends no token when it follows a redirect to another host: a 401 of that host does not refuse it.
    if response.status_code not in _REFUSALS or _AUTHORIZATION not in response.request.headers:
        return False
    files = (getattr(field, "file", b"") for field in getattr(request.stream, "fields", ()))  # of a multipart form
    if not all(isinstance(file, str | bytes) or (hasattr(file, "seek") and file.seekable()) for file in files):
        return False
    body = getattr(request.stream, "_stream", ())
    return not (hasattr(body, "read") or isinstance(body, Iterator | AsyncIterator))


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def _wait_for(work: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise RuntimeError("A synchronous client would block the running event loop: use an AsyncClient here.")


def aiohttp_middleware(
    credentials: CredentialSource, *, origin: str | None = None, is_auth_error: Judge = is_auth_error
) -> Callable[[aiohttp.ClientRequest, Callable[..., Awaitable[aiohttp.ClientResponse]]], Any]:
    """Return a middleware of `aiohttp.ClientSession` that signs its requests, and refreshes a refused token.

    As `httpx_auth`. aiohttp runs middlewares again for each redirect; the token goes to one origin only, so that no
    redirect takes it to another host, and requests to other origins pass as they are.

    Args:
        credentials, is_auth_error: as for `httpx_auth`.
        origin: the scheme, host and port that get the token, such as `https://api.example.com`; by default those of the
            first request.

    Raises:
        ValueError: `origin` is not https (loopback excepted).

    >>> from rxauth import StaticCredentials
    >>> middleware = aiohttp_middleware(StaticCredentials("secret"), origin="https://api.example.com")
    """
    from yarl import URL

    token_origin = None if origin is None else URL(checked_url(origin, "origin")).origin()

    async def middleware(
        request: aiohttp.ClientRequest, handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
    ) -> aiohttp.ClientResponse:
        nonlocal token_origin
        if token_origin is None:
            token_origin = URL(checked_url(str(request.url.origin()), "The request's URL")).origin()
        if request.url.origin() != token_origin:
            return await handler(request)
        credential = await credentials.current()
        request.headers[_AUTHORIZATION] = f"Bearer {credential.access_token}"
        response = await handler(request)
        if response.status not in _REFUSALS or getattr(request.body, "consumed", False):
            return response
        body = await response.read()  # the response keeps it for the caller; the connection is free
        renewed = await _renewed(credentials, is_auth_error, credential, response.status, body)
        if renewed is None:
            return response
        request.headers[_AUTHORIZATION] = f"Bearer {renewed.access_token}"
        return await handler(request)

    return middleware


async def _renewed(
    credentials: CredentialSource, judge: Judge, rejected: Credential, status: int, body: bytes
) -> Credential | None:
    """Return a new credential, or `None` if the response does not refuse the token or no refresh was possible."""
    refusal = CredentialRejected("The server refused the access token.", status=status, credential=rejected)
    if not judge({"type": "error", "status": status, "body": _json(body)}):
        return None
    try:
        return await credentials.refresh(refusal)
    except CredentialError as error:
        log.warning("The server refused the access token, and it could not be refreshed. %s", error)
        return None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body[:_LONGEST_BODY])
    except (ValueError, RecursionError):  # no JSON, or arrays that are nested without end
        return body[:_LONGEST_BODY].decode(errors="replace")
