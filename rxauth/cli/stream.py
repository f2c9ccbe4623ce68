"""Stream an answer: decide which server to ask, and with which credential."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rxauth.addresses import checked_url
from rxauth.cli import DONE, exit_code, run, screen
from rxauth.cli.logins import logins_of, provider_at, provider_named
from rxauth.errors import (
    ConnectionFailed,
    CredentialError,
    CredentialRejected,
    LoginRequired,
    ProviderUnavailable,
    RequestRejected,
)
from rxauth.providers import PROVIDERS, Protocol, Provider

if TYPE_CHECKING:
    from rxauth.credentials import CredentialSource

_EMBEDDED = "fake"
_CHOICES = sorted([*PROVIDERS, _EMBEDDED])


def stream(args: Namespace) -> int:
    """Stream the answer to a prompt."""
    try:
        prompt = sys.stdin.buffer.read().decode() if args.prompt == "-" else args.prompt
        prompt.encode()
    except UnicodeError:
        raise ValueError("The prompt is not text: give it as UTF-8.") from None
    if not prompt.strip():
        raise ValueError('The prompt is empty: say what to ask, as in `rxauth stream "hello"`.')
    if args.json and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is UTF-8 whatever the terminal takes: RFC 8259 section 8.1
    return run(_embedded_answer(args, prompt) if args.provider == _EMBEDDED else _answer(args, prompt))


async def _answer(args: Namespace, prompt: str) -> int:
    provider = provider_of(args)
    logins = logins_of(args, provider)
    return await _show(args, prompt, provider, await logins.credentials(), logins.headers())


async def _embedded_answer(args: Namespace, prompt: str) -> int:
    """Ask a provider on loopback, with a token that it has already invalidated."""
    from rxauth.credentials import MemoryStore, OAuthCredentials
    from rxauth.testing import FakeProvider, Reply

    if args.base_url is not None or args.credentials is not None:
        own = "--provider fake has an address and a credential of its own"
        raise ValueError(f"{own}: leave out --base-url and --credentials.")
    answer = "I am the embedded provider. Your token was dead when you asked; it was refreshed before you noticed."
    pause = 0.03 if sys.stdout.isatty() else 0.0  # s; a person sees the words arrive one by one
    async with FakeProvider(answer=answer, replies=[Reply(pause=pause)]) as fake:
        store = MemoryStore(fake.credential())
        fake.invalidate()
        credentials = OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id)
        protocol: Protocol = args.protocol or "anthropic-messages"
        base_url = fake.url + "/v1" if protocol == "openai-chat" else fake.url
        provider = Provider(name=_EMBEDDED, base_urls={protocol: base_url}, model="fake-model")
        return await _show(args, prompt, provider, credentials, {})


async def _show(
    args: Namespace, prompt: str, provider: Provider, credentials: CredentialSource, headers: Mapping[str, str]
) -> int:
    from rxauth.bridge import to_async_iterable
    from rxauth.events import to_json
    from rxauth.operators import recover_auth, suppress_empty_response
    from rxauth.sources import anthropic_messages, openai_chat

    ((protocol, base_url),) = provider.base_urls.items()
    request = {"model": args.model or provider.model, "messages": [{"role": "user", "content": prompt}]}
    if protocol == "anthropic-messages":
        ask, request["max_tokens"] = anthropic_messages, args.max_tokens
    else:
        ask = openai_chat
    events = ask(request, base_url=base_url, credentials=credentials, headers=headers, auth_header=provider.auth_header)
    if provider.wraps_empty:
        events = events.pipe(suppress_empty_response())
    answer = Answer()
    async for event in to_async_iterable(events.pipe(recover_auth(credentials.refresh))):
        if args.json:
            screen.write(to_json(event))
        else:
            answer.show(event)
        if event.type == "error":
            return await _failed(args, event)
    return DONE


class Answer:
    """Show events as they arrive: text on standard output, thinking and tool calls on standard error."""

    def __init__(self) -> None:
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if screen.has_color(sys.stderr) else ("", "")
        self._at_line_start = True

    def show(self, event: Any) -> None:
        """Show one event."""
        match event.type:
            case "text_delta":
                screen.write(event.delta, end="")
                self._at_line_start = event.delta.endswith("\n")
            case "text_end" | "error" if not self._at_line_start:
                screen.write("")
                self._at_line_start = True
            case "thinking_delta":
                screen.aside(f"{self._dim}{event.delta}{self._plain}", end="")
            case "thinking_end":
                screen.aside("")
            case "toolcall_end":
                call = event.tool_call
                screen.aside(f"{self._dim}[calls {call.name}({call.arguments_json})]{self._plain}")


def provider_of(args: Namespace) -> Provider:
    """Return the provider that the flags name, with the one protocol to speak and the address to ask."""
    if args.base_url:
        checked_url(args.base_url, "--base-url")
    if args.provider is None:
        if not args.base_url:
            raise ValueError(f"Say where to ask: --provider {'|'.join(_CHOICES)}, or --base-url URL.")
        return provider_at(args.base_url, args.protocol)
    provider = provider_named(args.provider, (*_CHOICES, "or give --base-url"))
    spoken: Protocol = args.protocol or next(iter(provider.base_urls))
    if spoken not in provider.base_urls:
        raise ValueError(f"{provider.name} does not speak {spoken}; it speaks {' and '.join(provider.base_urls)}.")
    return replace(provider, base_urls={spoken: args.base_url or _address(provider, spoken)})


def _address(provider: Provider, protocol: Protocol) -> str:
    """Return the address of a provider's API, or the one that the environment names."""
    given = os.environ.get(provider.base_url_env or "", "").strip().rstrip("/")
    if not given:
        return provider.base_urls[protocol]
    # One variable for both protocols: by the SDKs' convention OpenAI's URL ends with /v1 and Anthropic's does not.
    bare = checked_url(given, str(provider.base_url_env)).removesuffix("/v1")
    return bare + "/v1" if protocol == "openai-chat" else bare


async def _failed(args: Namespace, event: Any) -> int:
    cause = event.cause
    sentence = event.error.error_message or "The stream failed."
    if isinstance(cause, CredentialRejected) and isinstance(cause.__cause__, CredentialError):
        cause = cause.__cause__  # the reason why the credential could not be refreshed
        sentence = str(cause)
    action = _next_action(cause)
    if isinstance(cause, CredentialRejected | LoginRequired) and args.logins is not None:
        action = args.logins.next_action()
        if isinstance(cause, LoginRequired):
            await args.logins.note_end()
    stop = "" if sentence.endswith((".", "!", "?", "…")) else "."
    screen.complain(f"{sentence}{stop} {action}" if action else sentence)
    return exit_code(cause)


def _next_action(cause: object) -> str:
    """Return the sentence that says how a person goes on, where the error's own does not."""
    match cause:
        case ConnectionFailed():
            return "Check the address and the network, and try again."
        case ProviderUnavailable(retry_after=int() | float() as seconds):
            return f"Try again in {seconds:.0f} s."
        case ProviderUnavailable():
            return "Try again later."
        case RequestRejected(status=401 | 402 | 403):
            return "Check what your account may use."
        case RequestRejected():
            return "Change the prompt, --model or --base-url."
    return ""
