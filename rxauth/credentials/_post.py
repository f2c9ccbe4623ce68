"""Send one OAuth POST request and read its answer, with the caller's proxy and TLS settings."""

from __future__ import annotations

import asyncio
import inspect
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode, urlsplit

import aiohttp
import yarl

from rxauth._version import __version__
from rxauth.addresses import proxy_for
from rxauth.credentials._token_answer import Answer
from rxauth.errors import TransientError

__all__ = ["BodyFormat", "EndpointUnavailable", "SessionOption", "Sender"]

BodyFormat: TypeAlias = Literal["form", "json"]
SessionOption: TypeAlias = "aiohttp.ClientSession | Callable[[], Any] | None"

_BODY_LIMIT = 1 << 20  # bytes; a token response has a few kilobytes


class EndpointUnavailable(TransientError):
    """The endpoint sent no usable answer; the same request may get one later.

    `type` is the OAuth error code or the name of the exception's class, `status` the HTTP status, if there was one.
    """

    def __init__(self, message: str, *, type: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.type = type
        self.status = status


class Sender:
    """Make POST requests, each over a connection of its own.

    Args:
        headers: more headers of each request.
        body: the encoding of the parameters.
        session: `None`: the proxies of the environment, and the certificates that Python trusts. A function without
            arguments: is called on the loop that sends, for each request, and returns an `aiohttp.ClientSession` (or
            an awaitable of one), which is closed afterwards. A session: its proxy, `trust_env`, TLS settings (CA,
            client certificate), resolver and local address are used. It is not used itself, because it belongs to its
            loop, which may end before the answer comes; its headers, cookies and middlewares are not used either.
        connect_timeout: seconds for the connection, from the name's resolution to the end of the TLS handshake.

    Raises:
        TypeError: session is something else, or has a connector whose settings cannot be read.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        body: BodyFormat = "form",
        session: SessionOption = None,
        connect_timeout: float = 10.0,
    ) -> None:
        if body not in ("form", "json"):
            raise ValueError('body is "form" or "json".')
        kind = "application/json" if body == "json" else "application/x-www-form-urlencoded"
        usual = {"Content-Type": kind, "Accept": "application/json", "User-Agent": f"rxauth/{__version__}"}
        self._headers = usual | dict(headers or {})
        self._body = body
        self._connect_timeout = connect_timeout
        self._open: Callable[[], Any]
        self._proxy: Callable[[str], Any]
        if session is None:
            self._open, self._proxy = _usual_session, proxy_for
        elif isinstance(session, aiohttp.ClientSession):
            self._open, self._proxy = _settings_of(session)
        elif callable(session):
            self._open, self._proxy = session, lambda url: None
        else:
            raise TypeError("session is an aiohttp.ClientSession, or a function that returns one.")

    async def post(self, url: str, fields: Mapping[str, str], *, within: float) -> Answer:
        """Send the fields and read the answer whole. A redirect is not followed but returned, as every answer is.

        Args:
            url: an address that `checked_url` has returned.
            fields: the parameters.
            within: seconds for all of it.

        Raises:
            EndpointUnavailable: there is no answer, or it broke off, or it is longer than a megabyte.
        """
        host = urlsplit(url).netloc
        data = (json.dumps(fields) if self._body == "json" else urlencode(fields)).encode()
        try:
            async with asyncio.timeout(within):
                session = self._open()
                if inspect.isawaitable(session):
                    session = await session
                async with (
                    session,
                    session.post(
                        url,
                        data=data,
                        headers=self._headers,
                        allow_redirects=False,
                        raise_for_status=False,
                        proxy=self._proxy(url),
                        timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
                    ) as response,
                ):
                    return Answer(response.status, response.headers, await _read(response.content, host))
        except EndpointUnavailable:
            raise
        except aiohttp.ConnectionTimeoutError:
            kind, trouble = (
                "timeout",
                f"The token endpoint {host} cannot be reached within {self._connect_timeout:g} s.",
            )
        except TimeoutError:
            kind, trouble = "timeout", f"The token endpoint {host} did not answer within {within:g} s."
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            kind = type(error).__name__
            trouble = (
                f"No secure connection to the token endpoint {host} ({kind}): "
                "its certificate is not one that this machine trusts."
            )
        except Exception as error:
            # For a broken peer aiohttp also raises exceptions that are no ClientError.
            kind = type(error).__name__
            trouble = f"The token endpoint {host} cannot be reached, or broke off ({kind})."
        # Outside of `except`: aiohttp's exceptions hold the headers and the server's text, perhaps a token.
        raise EndpointUnavailable(trouble, type=kind)


async def _read(content: aiohttp.StreamReader, host: str) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise EndpointUnavailable(f"The answer of the token endpoint {host} does not end.", type="too_long")
    return bytes(body)


def _usual_session(**connector: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(**connector), cookie_jar=aiohttp.DummyCookieJar())


def _settings_of(session: aiohttp.ClientSession) -> tuple[Callable[[], aiohttp.ClientSession], Callable[[str], Any]]:
    """Return a function that opens a session with the same settings, and one that returns its proxy for a URL."""
    connector: Any = session.connector
    if type(connector) is not aiohttp.TCPConnector:
        raise TypeError(
            f"session has a {type(connector).__name__}, which belongs to its loop; "
            "give a function that returns a session."
        )
    # aiohttp has no public names for these; a test fails when a version has others.
    settings: dict[str, Any] = {"ssl": connector._ssl, "family": connector.family}
    resolver = connector._resolver
    if not getattr(connector, "_resolver_owner", isinstance(resolver, aiohttp.DefaultResolver)):
        settings["resolver"] = resolver
    if connector._local_addr_infos:
        settings["local_addr"] = connector._local_addr_infos[0][4][:2]
    proxy, login, from_environment = session._default_proxy, session._default_proxy_auth, session.trust_env
    if proxy is not None and login is not None:
        proxy = yarl.URL(proxy).with_user(login.login).with_password(login.password)

    def proxy_of(url: str) -> Any:
        return proxy_for(url) if proxy is None and from_environment else proxy

    return lambda: _usual_session(**settings), proxy_of
