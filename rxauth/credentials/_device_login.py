"""Log in on a device without a browser of its own: the device authorization grant, RFC 8628.

Nothing is printed here, and no browser opened: the caller does that in `on_prompt` and `on_waiting`.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from rxauth.addresses import checked_url
from rxauth.credentials._credential import Credential
from rxauth.credentials._device_prompt import DEFAULT_INTERVAL, DevicePrompt, DeviceWaiting, read_prompt
from rxauth.credentials._post import EndpointUnavailable, Sender, SessionOption
from rxauth.credentials._token_answer import Answer, error_code, granted
from rxauth.errors import ConnectionFailed, LoginRequired, ProtocolError, RequestRejected
from rxauth.failures import TRANSIENT_STATUS, seconds_to_wait

__all__ = ["DevicePrompt", "DeviceWaiting", "device_login"]

_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
_RESERVED = frozenset({"client_id", "client_secret", "scope", "grant_type", "device_code"})

_SLOW_DOWN = 5.0  # s; RFC 8628 section 3.5
_LONGEST_PAUSE = 60.0  # s between two tries while the server cannot be reached
_TRIES_FOR_A_NEW_CODE = 5

T = TypeVar("T")


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
        client=_client_params(client_id, client_secret, extra_params),
        scope=scope,
        sender=Sender(headers=headers, session=session, connect_timeout=request_timeout),
        request_timeout=request_timeout,
        clock=clock,
        sleep=sleep,
    )
    device_code, prompt = await login.begin()
    while True:
        asked_at = clock()
        await _call(on_prompt, prompt)
        credential = await login.poll(device_code, prompt, asked_at, on_waiting)
        if credential is not None:
            return credential
        device_code, prompt = await login.begin_again()


@dataclass(kw_only=True)
class _DeviceLogin:
    """Make the two requests, and decide what their answers mean."""

    device_url: str
    token_url: str
    client: dict[str, str]
    scope: str | None
    sender: Sender
    request_timeout: float
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]

    async def begin(self) -> tuple[str, DevicePrompt]:
        """Ask for a code (RFC 8628 section 3.1)."""
        form = self.client if self.scope is None else self.client | {"scope": self.scope}
        try:
            answer = await self._post(self.device_url, form)
        except EndpointUnavailable as error:
            raise self._unreachable(self.device_url, error) from error
        code = error_code(answer, (self.client.get("client_secret", ""),))
        if code is not None or answer.status != 200:
            self._reject(self.device_url, answer, code)
        return read_prompt(answer, urlsplit(self.device_url).netloc)

    async def begin_again(self) -> tuple[str, DevicePrompt]:
        """Ask for another code; a person is waiting already, so wait a few minutes for a network that is down."""
        pause = DEFAULT_INTERVAL
        for _ in range(_TRIES_FOR_A_NEW_CODE - 1):
            try:
                return await self.begin()
            except ConnectionFailed as error:
                await self.sleep(max(pause, error.retry_after or 0.0))
                pause *= 2
        return await self.begin()

    async def poll(
        self,
        device_code: str,
        prompt: DevicePrompt,
        asked_at: float,
        on_waiting: Callable[[DeviceWaiting], object] | None,
    ) -> Credential | None:
        """Wait for the credential (RFC 8628 section 3.4 and 3.5); return `None` if the code expires first."""
        form = self.client | {"grant_type": _GRANT_TYPE, "device_code": device_code}
        secrets = (device_code, self.client.get("client_secret", ""))
        interval = pause = prompt.interval
        unreachable: EndpointUnavailable | None = None
        reached = False
        while (elapsed := max(0.0, self.clock() - asked_at)) <= prompt.expires_in:
            if on_waiting is not None:
                trouble = None if unreachable is None else str(unreachable)
                remaining = prompt.expires_in - elapsed
                await _call(on_waiting, DeviceWaiting(elapsed=elapsed, remaining=remaining, trouble=trouble))
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
                    self._reject(self.token_url, answer, code)
            pause, unreachable, reached = interval, None, True
        if unreachable is not None and not reached:
            raise self._unreachable(self.token_url, unreachable) from unreachable
        return None

    async def _post(self, url: str, form: Mapping[str, str]) -> Answer:
        answer = await self.sender.post(url, form, within=self.request_timeout)
        if answer.status in TRANSIENT_STATUS:
            raise EndpointUnavailable(
                f"{urlsplit(url).netloc} cannot answer now (status {answer.status}).",
                type="http_error",
                status=answer.status,
                retry_after=seconds_to_wait(answer.headers, now=self.clock()),
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

    def _reject(self, url: str, answer: Answer, code: str | None) -> NoReturn:
        host, status = urlsplit(url).netloc, answer.status
        if 300 <= status < 400:
            raise ProtocolError(
                f"The login server {host} redirects (status {status}); a login is not sent along a redirect. "
                "Check the address.",
                status=status,
            )
        if code is None:
            raise ProtocolError(
                f"The answer of the login server {host} is not RFC 8628 (status {status}). Check the address.",
                status=status,
            )
        raise RequestRejected(
            f"The login server {host} does not accept the request ({code}, status {status}). "
            "Check client_id, scope and the address.",
            status=status,
            type=code,
        )


def _client_params(client_id: str, client_secret: str | None, extra_params: Mapping[str, str] | None) -> dict[str, str]:
    if not client_id:
        raise ValueError("client_id is a string that is not empty.")
    params = dict(extra_params or {})
    for name in params:
        if name in _RESERVED:
            raise ValueError(f"extra_params cannot set {name}: there is an argument for it.")
    params["client_id"] = client_id
    if client_secret is not None:
        params["client_secret"] = client_secret
    return params


async def _call(listener: Callable[[T], object], value: T) -> None:
    result = listener(value)
    if inspect.isawaitable(result):
        await result
