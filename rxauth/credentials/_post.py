"""Send one OAuth POST request, with the caller's proxy and TLS settings, and read its answer whole."""

from __future__ import annotations

import asyncio
import inspect
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import yarl

from rxauth._version import __version__
from rxauth.addresses import proxy_for
from rxauth.errors import TransientError
from rxauth.failures import seconds_to_wait

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


class Answer(NamedTuple):
    """Hold an HTTP answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status})"  # a traceback with local variables must not show the tokens in the body

    def fields(self) -> Mapping[str, Any]:
        """Return the fields of a JSON object, or of a form if the answer is labelled as one; none without either."""
        label = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        # By the label: a form that breaks off passes for a shorter one, a JSON object does not.
        if label == "application/x-www-form-urlencoded":
            return dict(parse_qsl(self.body.decode("utf-8", "replace")))
        try:
            value = json.loads(self.body.decode("utf-8-sig"), parse_int=_integer)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def unavailable(self, text: str, *, type: str, now: float) -> EndpointUnavailable:
        """Return the error for an answer that may be another one later."""
        retry_after = seconds_to_wait(self.headers, now=now)
        return EndpointUnavailable(text, type=type, status=self.status, retry_after=retry_after)


def _integer(digits: str) -> int | float:
    # int() refuses more than 4300 digits, and a rotated token must not be lost for a number.
    return int(digits) if len(digits) <= 20 else float(digits)


class Sender:
    """Make POST requests, each over a connection of its own, which is up within `connect_timeout` seconds.

    `session` is `None` (the proxies of the environment, the certificates that Python trusts); or a function that is
    called on the loop that sends and returns an `aiohttp.ClientSession` (or an awaitable of one), which is closed
    afterwards; or a session, of which only the proxy, `trust_env`, TLS settings, resolver and local address are used:
    it belongs to its loop, which may end before the answer comes.
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
        self._encode: Callable[[Mapping[str, str]], str] = json.dumps if body == "json" else urlencode
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
        """Return the answer, a redirect too; EndpointUnavailable if there is none within so many seconds."""
        host = urlsplit(url).netloc
        try:
            async with asyncio.timeout(within):
                session = self._open()
                if inspect.isawaitable(session):
                    session = await session
                async with (
                    session,
                    session.post(
                        url,
                        data=self._encode(fields).encode(),
                        headers=self._headers,
                        allow_redirects=False,
                        raise_for_status=False,
                        proxy=self._proxy(url),
                        timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
                    ) as response,
                ):
                    body = await _read(response.content)
                if len(body) <= _BODY_LIMIT:
                    return Answer(response.status, response.headers, body)
                kind, trouble = "too_long", "sends an answer that does not end"
        except aiohttp.ConnectionTimeoutError:
            kind, trouble = "timeout", f"cannot be reached within {self._connect_timeout:g} s"
        except TimeoutError:
            kind, trouble = "timeout", f"did not answer within {within:g} s"
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            kind = type(error).__name__
            trouble = f"has no certificate that this machine trusts ({kind})"
        except Exception as error:
            # For a broken peer aiohttp also raises exceptions that are no ClientError.
            kind = type(error).__name__
            trouble = f"cannot be reached, or broke off ({kind})"
        # Outside of `except`: aiohttp's exceptions hold the headers and the server's text, perhaps a token.
        raise EndpointUnavailable(f"The token endpoint {host} {trouble}.", type=kind)


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Return the body, or a start of it that is longer than allowed."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > _BODY_LIMIT:
            break
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
