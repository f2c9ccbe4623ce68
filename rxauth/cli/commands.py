"""Carry out the commands."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import textwrap
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from rxauth.cli import screen
from rxauth.cli.exits import DONE, FAILED, USAGE, CommandError, exit_code, sentences
from rxauth.cli.logins import logins_of
from rxauth.cli.running import run

if TYPE_CHECKING:
    from rxauth.cli.demo import Scene
    from rxauth.cli.endpoint import Endpoint
    from rxauth.credentials import CredentialStore

__all__ = ["demo", "login", "logout", "status", "stream"]


# demo ----------------------------------------------------------------------------------------------------------------


def demo(args: Namespace) -> int:
    """Ask one question in three ways, with a token that the embedded provider has invalidated."""
    from rxauth.cli.demo import run_demo

    scenes = run(run_demo())
    if args.json:
        screen.write(json.dumps({"scenes": [_scene_as_json(scene) for scene in scenes], "ok": scenes[-1].whole}))
    else:
        color = args.color == "always" or (args.color == "auto" and screen.has_color(sys.stdout))
        screen.write("The token has not expired on this machine, but the server no longer accepts it.")
        screen.write("The same question is asked in three ways.\n")
        for scene in scenes:
            _show_scene(scene, color)
        screen.write("Your own streams:  stream.pipe(recover_auth(credentials.refresh))")
    return DONE if scenes[-1].whole else FAILED


def _show_scene(scene: Scene, color: bool) -> None:
    bold, dim, plain = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if color else ("", "", "")
    width = screen.width(sys.stdout)
    screen.write(f"{bold}{scene.name}{plain}\n{textwrap.fill(scene.remark, width)}\n")
    screen.write(scene.diagram.text(width, color=color, ascii_only=not screen.can_draw(sys.stdout)))
    screen.write(f"\n{dim}saved in the transcript:{plain}")
    for number, entry in enumerate(scene.transcript, start=1):
        message = entry.message
        text = json.dumps(message.text, ensure_ascii=False) if message.text else "(empty)"
        end = "never ended: a phantom" if entry.open else message.error_message or "complete"
        screen.write(
            textwrap.fill(f"{number}. {text}  {end}", width - 1, initial_indent="  ", subsequent_indent="     ")
        )
    screen.write("\n")


def _scene_as_json(scene: Scene) -> dict[str, Any]:
    from rxauth.events import to_json

    return {
        "name": scene.name,
        "events": [json.loads(to_json(event)) for event in scene.events],
        "transcript": [
            {"open": entry.open, "message": json.loads(to_json(entry.message))} for entry in scene.transcript
        ],
        "requests": [{"request": request, "status": status} for request, status in scene.requests],
    }


# stream --------------------------------------------------------------------------------------------------------------


def stream(args: Namespace) -> int:
    """Stream the answer to a prompt."""
    prompt = _prompt(args.prompt)
    if args.json and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is UTF-8 whatever the terminal takes: RFC 8259 section 8.1
    return run(_answer(args, prompt))


def _prompt(given: str) -> str:
    try:
        prompt = screen.standard_input() if given == "-" else given
        prompt.encode()
    except UnicodeError:
        raise CommandError("The prompt is not text: give it as UTF-8.", USAGE) from None
    if not prompt.strip():
        raise CommandError('The prompt is empty: say what to ask, as in `rxauth stream "hello"`.', USAGE)
    return prompt


async def _answer(args: Namespace, prompt: str) -> int:
    from rxauth.bridge import to_async_iterable
    from rxauth.events import to_json
    from rxauth.operators import recover_auth

    async with _endpoint(args) as endpoint:
        try:
            source = endpoint.stream(prompt, args.max_tokens)
        except (TypeError, ValueError) as error:
            raise CommandError(str(error), USAGE) from None
        answer = screen.Answer()
        async for event in to_async_iterable(source.pipe(recover_auth(endpoint.credentials.refresh))):
            if args.json:
                screen.write(to_json(event))
            else:
                answer.show(event)
            if event.type == "error":
                return await _failed(event, endpoint)
    return DONE


@asynccontextmanager
async def _endpoint(args: Namespace) -> AsyncIterator[Endpoint]:
    from rxauth.cli.endpoint import embedded_endpoint, real_endpoint

    if args.provider == "fake":
        if args.base_url is not None or args.credentials is not None:
            own = "--provider fake has an address and a credential of its own"
            raise CommandError(f"{own}: leave out --base-url and --credentials.", USAGE)
        async with embedded_endpoint(args.protocol, args.model) as endpoint:
            yield endpoint
        return
    with sentences():
        endpoint = await real_endpoint(
            os.environ,
            provider=args.provider,
            base_url=args.base_url,
            protocol=args.protocol,
            model=args.model,
            credentials=args.credentials,
            account=args.account,
            headers=args.header,
        )
    args.in_use.source = endpoint.credentials
    args.in_use.next_action = "" if endpoint.logins is None else endpoint.logins.next_action()
    yield endpoint


async def _failed(event: Any, endpoint: Endpoint) -> int:
    from rxauth.errors import CredentialError, CredentialRejected, LoginRequired

    cause = event.cause
    sentence = event.error.error_message or "The stream failed."
    if isinstance(cause, CredentialRejected) and isinstance(cause.__cause__, CredentialError):
        cause = cause.__cause__  # the reason why the credential could not be refreshed
        sentence = str(cause)
    next_action = "" if endpoint.logins is None else endpoint.logins.next_action()
    if isinstance(cause, LoginRequired) and endpoint.logins is not None:
        await endpoint.logins.note_end()
    if action := _next_action(cause, next_action):
        stop = "" if sentence.endswith((".", "!", "?", "…")) else "."
        sentence = f"{sentence}{stop} {action}"
    screen.complain(sentence)
    return exit_code(cause)


def _next_action(cause: object, next_action: str) -> str:
    """Return the sentence that says how a person goes on, where the error's own does not."""
    from rxauth.errors import ConnectionFailed, CredentialRejected, LoginRequired, ProviderUnavailable, RequestRejected

    match cause:
        case CredentialRejected() | LoginRequired():
            return next_action
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


# login, logout, status -----------------------------------------------------------------------------------------------


def login(args: Namespace) -> int:
    """Log in with a code in a browser, and store the credential."""
    return run(_log_in(args))


async def _log_in(args: Namespace) -> int:
    from rxauth.credentials import device_login

    with sentences():
        if args.provider == "kimi":
            args.provider = await _deployment(args)
        logins = logins_of(args, os.environ)
        app = logins.app
        if app is None:
            variable = logins.preset.key_env or "RXAUTH_TOKEN"
            raise CommandError(f"There is no login at {args.provider}. Set {variable} to an API key.", USAGE)
        await _check_storable(logins.stores()[0], args)
        store = await logins.own_store(new=True)
        prompt = screen.LoginPrompt(sys.stderr, browser=not args.no_browser)
        try:
            credential = await device_login(
                device_url=app.device_url,
                token_url=app.token_url,
                client_id=app.client_id,
                scope=app.scope,
                headers=logins.headers(),
                on_prompt=prompt.show,
                on_waiting=prompt.tick,
            )
        finally:
            prompt.end()
        await store.save(credential)
    screen.write(f"Logged in at {logins.name}. The credential is in {store.describe()}.")
    return DONE


async def _deployment(args: Namespace) -> str:
    """Return the name of Kimi's deployment in the given region, else of the one that kimi-code was installed for."""
    from rxauth.credentials import KimiCodeStore
    from rxauth.errors import LoginRequired

    logins = logins_of(args, os.environ)
    regions = logins.preset.regions
    if args.region is not None or not logins.at_usual_host():
        return regions[args.region or "mainland-cn"]
    noted = regions[KimiCodeStore.region(environ=os.environ) or "mainland-cn"]
    if noted != args.provider:
        with suppress(LoginRequired):  # kimi-code too goes by its region only before the first login
            await logins.login()
            return str(args.provider)
        screen.complain(f"kimi-code is installed for {noted} here; `--region mainland-cn` logs in at kimi.")
    return noted


async def _check_storable(store: CredentialStore, args: Namespace) -> None:
    """Fail before a person goes to the browser, where nothing can be stored."""
    from rxauth.errors import StoreError

    try:
        async with asyncio.timeout(1), store.locked():
            pass
    except TimeoutError:  # another process has the lock, so there can be one
        pass
    except StoreError as error:
        action = "Set RXAUTH_HOME to a directory that can be written." if args.credentials is None else ""
        raise CommandError(f"{error} {action}".rstrip(), USAGE) from None


def logout(args: Namespace) -> int:
    """Delete the stored credential."""
    return run(_log_out(args))


async def _log_out(args: Namespace) -> int:
    with sentences():
        logins = logins_of(args, os.environ)
        store = await logins.own_store()
        deleted = await store.delete()
    where = store.describe()
    screen.write(
        f"Deleted the credential of {logins.name} from {where}." if deleted else f"Nothing to delete in {where}."
    )
    return DONE


def status(args: Namespace) -> int:
    """List the credentials that a stream would find."""
    from rxauth.cli.statuses import statuses

    with sentences():
        found = run(statuses(os.environ))
    if args.json:
        screen.write(json.dumps({"credentials": [each.as_json() for each in found]}))
    elif not found:
        screen.write(
            "There are no credentials. Log in: `rxauth login kimi`, or set a provider's key: `rxauth stream --help`."
        )
    else:
        width = max(10, *(len(each.provider) for each in found))
        for each in found:
            if each.trouble is None:
                screen.write(each.sentence(width))
    troubles = dict.fromkeys(each.trouble for each in found if each.trouble is not None)
    for trouble in troubles:  # one broken file may be named for several providers
        screen.complain(trouble)
    return USAGE if troubles else DONE
