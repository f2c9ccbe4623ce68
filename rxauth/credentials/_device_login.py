"""Log in on a device without a browser of its own: the device authorization grant, RFC 8628.

Nothing is printed here, and no browser opened: the caller does that in `on_prompt` and `on_waiting`.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from rxauth.addresses import checked_url
from rxauth.credentials._credential import Credential
from rxauth.credentials._post import Answer, EndpointUnavailable, Sender, SessionOption
from rxauth.credentials._token_endpoint import client_params, error_code, granted, number
from rxauth.errors import ConnectionFailed, LoginRequired, ProtocolError, ProviderError, RequestRejected
from rxauth.failures import TRANSIENT_STATUS

_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL = 5.0  # s; RFC 8628 section 3.2
_LIFETIME = 900.0  # s, for a server that does not send how long its code lives, although it must
_SLOW_DOWN = 5.0  # s; RFC 8628 section 3.5
_LONGEST_PAUSE = 60.0  # s between two tries while the server cannot be reached
_TRIES_FOR_A_NEW_CODE = 5


class DevicePrompt(msgspec.Struct, frozen=True, kw_only=True):
    """Show this to the person: open `verification_uri` on any device and enter `user_code` (RFC 8628 section 3.3).

    `verification_uri_complete` has the code in it already, for a browser or a QR code. `expires_in` and `interval` are
    seconds. All texts are printable, and the addresses are http(s): a server cannot make a terminal or a browser do
    more.
    """

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None = None
    expires_in: float
    interval: float


class DeviceWaiting(msgspec.Struct, frozen=True, kw_only=True):
    """Report that the person has not finished: seconds since the prompt, seconds until it expires.

    `trouble` explains in a sentence why the server could not be reached the last time; `None` if it could.
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
    session: SessionOption = None,
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
        scope: the scope to ask for, space separated.
        extra_params: more form parameters, sent to both.
        headers: more headers, sent to both.
        session: as for `OAuthCredentials`.
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
        ProtocolError: an answer is not RFC 8628.
        ValueError: an argument makes no sense.

    >>> asyncio.run(device_login(device_url="http://example.com/device", token_url="https://example.com/token",
    ...     client_id="me", on_prompt=print))
    Traceback (most recent call last):
    ValueError: device_url must be https: tokens do not travel unencrypted (loopback excepted).
    """
    login = _DeviceLogin(
        device_url=checked_url(device_url, "device_url"),
        token_url=checked_url(token_url, "token_url"),
        client=client_params(client_id, client_secret, extra_params),
        scope={} if scope is None else {"scope": scope},
        on_waiting=on_waiting,
        sender=Sender(headers=headers, session=session, connect_timeout=request_timeout),
        request_timeout=request_timeout,
        clock=clock,
        sleep=sleep,
    )
    device_code, prompt = await login.begin()
    while True:
        asked_at = clock()
        await _call(on_prompt, prompt)
        credential = await login.poll(device_code, prompt, asked_at)
        if credential is not None:
            return credential
        device_code, prompt = await login.begin_again()


@dataclass(kw_only=True)
class _DeviceLogin:
    """Make the two requests, and decide what their answers mean."""

    device_url: str
    token_url: str
    client: dict[str, str]
    scope: dict[str, str]
    on_waiting: Callable[[DeviceWaiting], object] | None
    sender: Sender
    request_timeout: float
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]

    async def begin(self) -> tuple[str, DevicePrompt]:
        """Ask for a code (RFC 8628 section 3.1)."""
        try:
            answer = await self._post(self.device_url, self.client | self.scope)
        except EndpointUnavailable as error:
            raise _unreachable(self.device_url, error) from error
        code = error_code(answer, (self.client.get("client_secret", ""),))
        if code is not None or answer.status != 200:
            raise _rejection(self.device_url, answer, code)
        return _prompt(answer, urlsplit(self.device_url).netloc)

    async def begin_again(self) -> tuple[str, DevicePrompt]:
        """Ask for another code; a person is waiting already, so wait a few minutes for a network that is down."""
        pause = _INTERVAL
        for _ in range(_TRIES_FOR_A_NEW_CODE - 1):
            try:
                return await self.begin()
            except ConnectionFailed as error:
                await self.sleep(max(pause, error.retry_after or 0.0))
                pause *= 2
        return await self.begin()

    async def poll(self, device_code: str, prompt: DevicePrompt, asked_at: float) -> Credential | None:
        """Wait for the credential (RFC 8628 section 3.4 and 3.5); return `None` if the code expires first."""
        form = self.client | {"grant_type": _GRANT_TYPE, "device_code": device_code}
        secrets = (device_code, self.client.get("client_secret", ""))
        interval = pause = prompt.interval
        unreachable: EndpointUnavailable | None = None
        reached = False
        while (elapsed := max(0.0, self.clock() - asked_at)) <= prompt.expires_in:
            if self.on_waiting is not None:
                trouble = None if unreachable is None else str(unreachable)
                remaining = prompt.expires_in - elapsed
                await _call(self.on_waiting, DeviceWaiting(elapsed=elapsed, remaining=remaining, trouble=trouble))
            await self.sleep(pause)
            before = self.clock()
            try:
                answer = await self._post(self.token_url, form)
            except EndpointUnavailable as error:
                unreachable = error
                pause = max(min(2 * pause, _LONGEST_PAUSE), interval, error.retry_after or 0.0)
                continue
            credential = granted(answer, now=before, token_url=self.token_url)
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
                case "invalid_grant" if self.clock() - asked_at > prompt.expires_in:
                    return None  # a server that has forgotten a code that expired
                case code:
                    raise _rejection(self.token_url, answer, code)
            pause, unreachable, reached = interval, None, True
        if unreachable is not None and not reached:
            raise _unreachable(self.token_url, unreachable) from unreachable
        return None

    async def _post(self, url: str, form: Mapping[str, str]) -> Answer:
        answer = await self.sender.post(url, form, within=self.request_timeout)
        if answer.status in TRANSIENT_STATUS:
            text = f"{urlsplit(url).netloc} cannot answer now (status {answer.status})."
            raise answer.unavailable(text, type="http_error", now=self.clock())
        return answer


def _unreachable(url: str, error: EndpointUnavailable) -> ConnectionFailed:
    reason = error.type if error.status is None else f"status {error.status}"
    return ConnectionFailed(
        f"The login server {urlsplit(url).netloc} cannot be reached ({reason}). Try again later.",
        status=error.status,
        type=error.type,
        retry_after=error.retry_after,
    )


def _rejection(url: str, answer: Answer, code: str | None) -> ProviderError:
    host, status = urlsplit(url).netloc, answer.status
    if 300 <= status < 400:
        redirects = f"The login server {host} redirects (status {status}); a login is not sent along a redirect."
        return ProtocolError(f"{redirects} Check the address.", status=status)
    if code is None:
        return _not_rfc_8628(host, status, "it is neither a grant nor an error")
    return RequestRejected(
        f"The login server {host} does not accept the request ({code}, status {status}). "
        "Check client_id, scope and the address.",
        status=status,
        type=code,
    )


def _not_rfc_8628(host: str, status: int, wrong: str) -> ProtocolError:
    return ProtocolError(
        f"The answer of the login server {host} is not RFC 8628 (status {status}): {wrong}. Check the address.",
        status=status,
    )


def _prompt(answer: Answer, host: str) -> tuple[str, DevicePrompt]:
    """Return the device code, which is a secret, and the prompt (RFC 8628 section 3.2)."""
    body = answer.fields()
    complete = body.get("verification_uri_complete") or None
    # `verification_url` is its name in the drafts of the RFC, and some servers still send that.
    uri = body.get("verification_uri") or body.get("verification_url") or complete
    device_code, user_code = body.get("device_code"), body.get("user_code")
    lifetime = _seconds(body.get("expires_in"), _LIFETIME)
    interval = max(1.0, _seconds(body.get("interval"), _INTERVAL))
    if not isinstance(device_code, str) or not device_code:
        raise _not_rfc_8628(host, answer.status, "it has no device_code")
    if not isinstance(user_code, str) or not user_code or not user_code.isprintable():
        raise _not_rfc_8628(host, answer.status, "it has no user_code that can be shown")
    if not _is_web_address(uri) or not (complete is None or _is_web_address(complete)):
        raise _not_rfc_8628(host, answer.status, "its verification_uri is no http(s) address")
    if interval > lifetime:
        raise _not_rfc_8628(host, answer.status, "its interval is longer than the code lives")
    return device_code, DevicePrompt(
        user_code=user_code,
        verification_uri=str(uri),
        verification_uri_complete=complete,
        expires_in=lifetime,
        interval=interval,
    )


def _is_web_address(value: Any) -> bool:
    """Return whether a browser opens it as a page: a server must not send a `file:` or `javascript:` address."""
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False


def _seconds(value: Any, default: float) -> float:
    seconds = number(value)
    return seconds if seconds is not None and 0 < seconds < math.inf else default


async def _call(listener: Callable[..., object], value: object) -> None:
    result = listener(value)
    if inspect.isawaitable(result):
        await result
