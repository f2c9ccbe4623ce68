"""Login on a device without a browser of its own: the device authorization grant, RFC 8628.

Nothing is printed here, and no browser opened: `on_prompt` and `on_waiting` say what to show.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec

from rxauth.addresses import checked_url
from rxauth.credentials._credential import Credential
from rxauth.credentials._token_endpoint import (
    Answer,
    EndpointUnavailable,
    error_code,
    granted,
    post_form,
)
from rxauth.errors import ConnectionFailed, LoginRequired, ProtocolError, RequestRejected
from rxauth.failures import seconds_to_wait

__all__ = ["DevicePrompt", "DeviceWaiting", "device_login"]

_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
_RESERVED = frozenset({"client_id", "client_secret", "scope", "grant_type", "device_code"})

_DEFAULT_INTERVAL = 5.0  # s; RFC 8628 section 3.2
_SLOW_DOWN = 5.0  # s; RFC 8628 section 3.5
_DEFAULT_LIFETIME = 900.0  # s, for a server that does not say how long its code lives, although it must
_LONGEST_PAUSE = 60.0  # s between two tries while the server cannot be reached
_TRIES_TO_START_OVER = 5

T = TypeVar("T")


class DevicePrompt(msgspec.Struct, frozen=True, kw_only=True):
    """What to show: open `verification_uri` on any device and type in `user_code` (RFC 8628 section 3.3).

    `verification_uri_complete` has the code in it already, for a browser or a QR code. `expires_in` and `interval` are
    seconds. All of it is printable, and the addresses are http(s): a server cannot make a terminal or a browser do
    more.
    """

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None = None
    expires_in: float
    interval: float


class DeviceWaiting(msgspec.Struct, frozen=True, kw_only=True):
    """The person has not finished yet: seconds since the prompt, seconds until it expires.

    `trouble` says in a sentence why the server could not be asked the last time; `None` if it could.
    """

    elapsed: float
    remaining: float
    trouble: str | None = None


async def device_login(
    *,
    device_url: str,
    token_url: str,
    client_id: str,
    client_secret: str | None = None,
    scope: str | None = None,
    extra_params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    on_prompt: Callable[[DevicePrompt], object],
    on_waiting: Callable[[DeviceWaiting], object] | None = None,
    request_timeout: float = 10.0,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Credential:
    """Ask for a code, have it shown, and wait until a person has allowed or refused it.

        device_url  --> on_prompt --> wait --> token_url --> a Credential
                            ^          ^  authorization_pending, slow_down (5 s more from then on), no connection (twice
                            |          |  as long each time)                                        --> wait
                            `----------'  expired_token                                             --> a new code

    Args:
        device_url: the device authorization endpoint; https, loopback excepted.
        token_url: the token endpoint; likewise.
        client_id: as registered with the server.
        client_secret: for a confidential client; goes into the body.
        scope: what to ask for, space separated.
        extra_params: more form parameters, sent to both.
        headers: more headers, sent to both.
        on_prompt: is given each DevicePrompt; a function or a coroutine function.
        on_waiting: is given a DeviceWaiting before each wait; likewise.
        request_timeout: seconds for one request.
        clock: Unix time in seconds.
        sleep: waits between two polls, in seconds.

    Returns:
        A credential, not stored anywhere yet.

    Raises:
        LoginRequired: the person refused.
        ConnectionFailed: the server cannot be reached, or could not for as long as the code lived.
        RequestRejected: the server does not accept this client or scope; `type` is its error code.
        ProtocolError: what it answers is not RFC 8628.
        ValueError: an argument makes no sense.

    >>> asyncio.run(device_login(device_url="http://example.com/device", token_url="https://example.com/token",
    ...     client_id="me", on_prompt=print))
    Traceback (most recent call last):
    ValueError: device_url must be https: tokens do not travel unencrypted (loopback excepted).
    """
    login = _DeviceLogin(
        device_url=checked_url(device_url, "device_url"),
        token_url=checked_url(token_url, "token_url"),
        client=_client(client_id, client_secret, extra_params),
        scope=scope,
        headers=dict(headers or {}),
        request_timeout=request_timeout,
        clock=clock,
        sleep=sleep,
    )
    device_code, prompt = await login.begin()
    while True:
        asked_at = clock()
        await _told(on_prompt, prompt)
        credential = await login.poll(device_code, prompt, asked_at, on_waiting)
        if credential is not None:
            return credential
        device_code, prompt = await login.begin_again()


class _DeviceLogin:
    """The two requests, and what their answers mean."""

    def __init__(
        self,
        *,
        device_url: str,
        token_url: str,
        client: dict[str, str],
        scope: str | None,
        headers: dict[str, str],
        request_timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._device_url = device_url
        self._token_url = token_url
        self._client = client
        self._scope = scope
        self._headers = headers
        self._request_timeout = request_timeout
        self._clock = clock
        self._sleep = sleep

    async def begin(self) -> tuple[str, DevicePrompt]:
        """The device code and what to show (RFC 8628 section 3.1 and 3.2)."""
        form = self._client if self._scope is None else self._client | {"scope": self._scope}
        try:
            answer = await self._ask(self._device_url, form)
        except EndpointUnavailable as error:
            raise self._unreachable(self._device_url, error) from error
        code = error_code(answer, (self._client.get("client_secret", ""),))
        if code is not None or answer.status != 200:
            self._refused(self._device_url, answer, code)
        return _prompt(answer, urlsplit(self._device_url).netloc)

    async def begin_again(self) -> tuple[str, DevicePrompt]:
        """The same for somebody who waits already: a network that is just not there is waited for, a few minutes."""
        pause = _DEFAULT_INTERVAL
        for _ in range(_TRIES_TO_START_OVER - 1):
            try:
                return await self.begin()
            except ConnectionFailed as error:
                await self._sleep(max(pause, error.retry_after or 0.0))
                pause *= 2
        return await self.begin()

    async def poll(
        self,
        device_code: str,
        prompt: DevicePrompt,
        asked_at: float,
        on_waiting: Callable[[DeviceWaiting], object] | None,
    ) -> Credential | None:
        """The credential (RFC 8628 section 3.4 and 3.5); `None` if the code expired first."""
        form = self._client | {"grant_type": _GRANT_TYPE, "device_code": device_code}
        secrets = (device_code, self._client.get("client_secret", ""))
        interval = pause = prompt.interval
        unreachable: EndpointUnavailable | None = None
        reached = False
        while True:
            elapsed = max(0.0, self._clock() - asked_at)
            if elapsed > prompt.expires_in and not reached and unreachable is not None:
                raise self._unreachable(self._token_url, unreachable) from unreachable
            if elapsed > prompt.expires_in:
                return None
            if on_waiting is not None:
                remaining = max(0.0, prompt.expires_in - elapsed)
                trouble = None if unreachable is None else str(unreachable)
                await _told(on_waiting, DeviceWaiting(elapsed=elapsed, remaining=remaining, trouble=trouble))
            await self._sleep(pause)
            before = self._clock()
            try:
                answer = await self._ask(self._token_url, form)
            except EndpointUnavailable as error:
                unreachable = error
                pause = max(min(2 * pause, _LONGEST_PAUSE), interval, error.retry_after or 0.0)
                continue
            credential = granted(answer, now=before)
            if credential is not None:
                return credential
            match error_code(answer, secrets):
                case "authorization_pending":
                    pass
                case "slow_down":
                    interval += _SLOW_DOWN
                case "expired_token":
                    return None
                case "access_denied":
                    raise LoginRequired("The login was refused. Start it again if that was a mistake.")
                case "invalid_grant" if self._clock() - asked_at > prompt.expires_in:
                    return None  # a server that has forgotten a code that expired
                case code:
                    self._refused(self._token_url, answer, code)
            pause, unreachable, reached = interval, None, True

    async def _ask(self, url: str, form: Mapping[str, str]) -> Answer:
        answer = await post_form(url, form, headers=self._headers, within=self._request_timeout)
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise EndpointUnavailable(
                f"{urlsplit(url).netloc} cannot answer now (status {answer.status}).",
                type="http_error",
                status=answer.status,
                retry_after=seconds_to_wait(answer.headers, now=self._clock()),
            )
        return answer

    def _unreachable(self, url: str, error: EndpointUnavailable) -> ConnectionFailed:
        reason = error.type if error.status is None else f"status {error.status}"
        return ConnectionFailed(
            f"The login server {urlsplit(url).netloc} cannot be reached ({reason}). Try again later.",
            status=error.status,
            type=error.type,
            retry_after=error.retry_after,
        )

    def _refused(self, url: str, answer: Answer, code: str | None) -> NoReturn:
        host = urlsplit(url).netloc
        if 300 <= answer.status < 400:
            raise ProtocolError(
                f"The login server {host} redirects (status {answer.status}); a login is not sent along a redirect. "
                "Check the address.",
                status=answer.status,
            )
        if code is None:
            raise ProtocolError(
                f"What the login server {host} answers is not RFC 8628 (status {answer.status}). Check the address.",
                status=answer.status,
            )
        raise RequestRejected(
            f"The login server {host} does not accept the request ({code}, status {answer.status}). "
            "Check client_id, scope and the address.",
            status=answer.status,
            type=code,
        )


def _client(client_id: str, client_secret: str | None, extra_params: Mapping[str, str] | None) -> dict[str, str]:
    params = dict(extra_params or {})
    if not client_id:
        raise ValueError("client_id is a string that is not empty.")
    for name in params:
        if name in _RESERVED:
            raise ValueError(f"extra_params cannot set {name}: there is an argument for it.")
    params["client_id"] = client_id
    if client_secret is not None:
        params["client_secret"] = client_secret
    return params


def _prompt(answer: Answer, host: str) -> tuple[str, DevicePrompt]:
    body = answer.json() or {}
    complete = body.get("verification_uri_complete") or None
    # `verification_url` is what the drafts of the RFC called it, and some servers still do.
    uri = body.get("verification_uri") or body.get("verification_url") or complete
    device_code, user_code = body.get("device_code"), body.get("user_code")
    lifetime = _seconds(body.get("expires_in"), _DEFAULT_LIFETIME)
    interval = max(1.0, _seconds(body.get("interval"), _DEFAULT_INTERVAL))
    wrong = (
        "it has no device_code"
        if not isinstance(device_code, str) or not device_code
        else "it has no user_code that can be shown"
        if not isinstance(user_code, str) or not user_code or not user_code.isprintable()
        else "its verification_uri is no http(s) address"
        if not _is_web_address(uri) or not (complete is None or _is_web_address(complete))
        else "its interval is longer than the code lives"
        if interval > lifetime
        else None
    )
    if wrong is not None:
        raise ProtocolError(f"What the login server {host} answers is not RFC 8628: {wrong}.", status=answer.status)
    return str(device_code), DevicePrompt(
        user_code=str(user_code),
        verification_uri=str(uri),
        verification_uri_complete=complete,
        expires_in=lifetime,
        interval=interval,
    )


def _is_web_address(value: Any) -> bool:
    """Something that a browser opens as a page: a `file:` or `javascript:` address from a server is not."""
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False


def _seconds(value: Any, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return default
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return default
    return seconds if 0 < seconds < math.inf else default


async def _told(listener: Callable[[T], object], value: T) -> None:
    result = listener(value)
    if inspect.isawaitable(result):
        await result
