"""The command line: the only place that prints.

Exit codes: 0 done, 1 the stream ended in an error, 2 usage or an unreadable credential file, 3 login required,
130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from rxauth import __version__

if TYPE_CHECKING:
    from rxauth.demo import Scene
    from rxauth.endpoints import Endpoint

DONE, FAILED, USAGE, LOGIN_REQUIRED, INTERRUPTED = 0, 1, 2, 3, 130

MAX_TOKENS = 8192


class CommandError(Exception):
    """One sentence for a person, and the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    # By default SIGTERM runs no Python at all: a token exchange under way would be lost, and the login with it.
    signal.signal(signal.SIGTERM, _terminated)
    _show_remarks_of_stores()
    try:
        args = _parser().parse_args(argv)
        code: int = args.run(args)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except CommandError as error:
        print(f"rxauth: {error}", file=sys.stderr)
        return error.code
    except BrokenPipeError:
        # Whoever read us has left; the interpreter must not fail over its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def _show_remarks_of_stores() -> None:
    """What a store has to say to a person: that others could read the file. Errors come as sentences of their own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("rxauth: %(message)s"))
    remarks = logging.getLogger("rxauth.credentials._stores")
    remarks.handlers = [handler]


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, not the whole usage."""
        raise CommandError(f"{message}. See `{self.prog} --help`.", USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rxauth", description="Survive an expired token in a stream.")
    parser.add_argument("--version", action="version", version=f"rxauth {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="see the problem and its solution, on an embedded provider")
    demo.add_argument("--json", action="store_true", help="for machines")
    demo.add_argument("--color", choices=["auto", "always", "never"], default="auto")
    demo.set_defaults(run=_demo)

    stream = commands.add_parser("stream", help="stream an answer to the terminal")
    stream.add_argument("prompt", metavar="PROMPT", help="what to ask; - reads it from standard input")
    _add_endpoint(stream)
    stream.add_argument("--model", help="the provider's usual one if not given")
    stream.add_argument("--max-tokens", type=_positive, default=MAX_TOKENS, metavar="N")
    stream.add_argument("--json", action="store_true", help="one event per line")
    stream.set_defaults(run=_stream)

    login = commands.add_parser("login", help="log in with a code in a browser, on this or any other device")
    login.add_argument("provider", nargs="?", default="kimi", metavar="PROVIDER", help="kimi if not given")
    login.add_argument("--no-browser", action="store_true", help="only show the address")
    login.set_defaults(run=_login)

    logout = commands.add_parser("logout", help="delete the stored credential of a provider")
    logout.add_argument("provider", nargs="?", default="kimi", metavar="PROVIDER", help="kimi if not given")
    logout.set_defaults(run=_logout)

    status = commands.add_parser("status", help="which credentials there are, where, and for how long")
    status.add_argument("--json", action="store_true", help="for machines")
    status.set_defaults(run=_status)
    return parser


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--provider", metavar="NAME", help="kimi, anthropic, openai, or fake: the embedded one")
    parser.add_argument("--base-url", metavar="URL", help="any compatible server")
    parser.add_argument("--protocol", choices=["anthropic-messages", "openai-chat"])
    parser.add_argument(
        "--credentials", type=Path, metavar="FILE", help="instead of those in $RXAUTH_HOME or ~/.rxauth"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


# demo ----------------------------------------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> int:
    from rxauth.demo import run_demo

    scenes = asyncio.run(run_demo())
    if args.json:
        print(json.dumps({"scenes": [_scene_as_json(scene) for scene in scenes], "ok": scenes[-1].whole}))
    else:
        color = args.color == "always" or (args.color == "auto" and _has_color(sys.stdout))
        print("A token that has not expired on this machine, and is dead on the server.")
        print("The same question, asked three ways.\n")
        for scene in scenes:
            _print_scene(scene, color)
        print("Your own streams:  stream.pipe(recover_auth(credentials.refresh))")
    return DONE if scenes[-1].whole else FAILED


def _print_scene(scene: Scene, color: bool) -> None:
    bold, dim, plain = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if color else ("", "", "")
    print(f"{bold}{scene.name}{plain}\n{scene.remark}\n")
    print(scene.diagram.text(80, color=color))
    print(f"\n{dim}saved in the transcript:{plain}")
    for number, entry in enumerate(scene.transcript, start=1):
        message = entry.message
        said = json.dumps(message.text, ensure_ascii=False) if message.text else "(empty)"
        fate = "never ended: a phantom" if entry.open else message.error_message or "complete"
        print(textwrap.fill(f"{number}. {said}  {fate}", 79, initial_indent="  ", subsequent_indent="     "))
    print("\n")


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


def _stream(args: argparse.Namespace) -> int:
    prompt = _prompt(args.prompt)
    return asyncio.run(_answer(args, prompt))


def _prompt(given: str) -> str:
    try:
        prompt = sys.stdin.read() if given == "-" else given
    except UnicodeDecodeError:
        raise CommandError("Standard input is not text: give the prompt as UTF-8.", USAGE) from None
    if not prompt.strip():
        raise CommandError('The prompt is empty: say what to ask, as in `rxauth stream "hello"`.', USAGE)
    return prompt


async def _answer(args: argparse.Namespace, prompt: str) -> int:
    from rxauth.bridge import to_async_iterable
    from rxauth.events import to_json
    from rxauth.operators import recover_auth

    async with _endpoint(args) as endpoint:
        try:
            source = endpoint.stream(prompt, args.max_tokens)
        except (TypeError, ValueError) as error:
            raise CommandError(str(error), USAGE) from None
        screen = _Screen(sys.stdout, sys.stderr)
        async for event in to_async_iterable(source.pipe(recover_auth(endpoint.credentials.refresh))):
            if args.json:
                print(to_json(event), flush=True)
            else:
                screen.show(event)
            if event.type == "error":
                return _failed(event, endpoint)
    return DONE


@asynccontextmanager
async def _endpoint(args: argparse.Namespace) -> AsyncIterator[Endpoint]:
    from rxauth.endpoints import embedded_endpoint, real_endpoint
    from rxauth.errors import CredentialError, LoginRequired

    if args.provider == "fake":
        async with embedded_endpoint(args.protocol, args.model) as endpoint:
            yield endpoint
        return
    try:
        endpoint = await real_endpoint(
            os.environ,
            provider=args.provider,
            base_url=args.base_url,
            protocol=args.protocol,
            model=args.model,
            credentials=args.credentials,
        )
    except LoginRequired as error:
        raise CommandError(str(error), LOGIN_REQUIRED) from None
    except (CredentialError, ValueError) as error:
        raise CommandError(str(error), USAGE) from None
    yield endpoint


class _Screen:
    """Text to standard output as it arrives; thinking and tool calls beside it, on standard error."""

    def __init__(self, out: TextIO, beside: TextIO) -> None:
        self._out = out
        self._beside = beside
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if _has_color(beside) else ("", "")
        self._fresh_line = True

    def show(self, event: Any) -> None:
        match event.type:
            case "text_delta":
                self._out.write(event.delta)
                self._out.flush()
                self._fresh_line = event.delta.endswith("\n")
            case "text_end" | "error":
                if not self._fresh_line:
                    print(file=self._out, flush=True)
                    self._fresh_line = True
            case "thinking_delta":
                self._aside(event.delta, end="")
            case "thinking_end":
                self._aside("")
            case "toolcall_end":
                call = event.tool_call
                self._aside(f"[calls {call.name}({call.arguments_json})]")

    def _aside(self, text: str, end: str = "\n") -> None:
        print(f"{self._dim}{text}{self._plain}", end=end, file=self._beside, flush=True)


def _failed(event: Any, endpoint: Endpoint) -> int:
    from rxauth.errors import CredentialError, CredentialRejected

    cause = event.cause
    sentence = event.error.error_message or "The stream failed."
    if isinstance(cause, CredentialRejected):
        if isinstance(cause.__cause__, CredentialError):  # why the credential could not be refreshed says what to do
            cause = cause.__cause__
            sentence = str(cause)
        else:
            sentence = f"{sentence} {endpoint.next_action}"
    print(f"rxauth: {sentence}", file=sys.stderr)
    return _exit_code(cause)


def _exit_code(error: object) -> int:
    from rxauth.errors import LoginRequired, StoreError

    if isinstance(error, LoginRequired):
        return LOGIN_REQUIRED
    return USAGE if isinstance(error, StoreError) else FAILED


# login, logout, status -----------------------------------------------------------------------------------------------


def _login(args: argparse.Namespace) -> int:
    return asyncio.run(_log_in(args.provider, browser=not args.no_browser))


async def _log_in(name: str, *, browser: bool) -> int:
    from rxauth.credentials import device_login
    from rxauth.endpoints import identity, oauth_app, own_store, preset_named
    from rxauth.errors import LoginRequired, RxAuthError, StoreError

    try:
        preset = preset_named(name)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    app = oauth_app(os.environ, preset)
    if app is None:
        raise CommandError(f"One cannot log in at {name}: set {preset.key_env} to an API key.", USAGE)
    waiting = _Waiting(sys.stderr, browser=browser)
    try:
        credential = await device_login(
            device_url=app.device_url,
            token_url=app.token_url,
            client_id=app.client_id,
            scope=app.scope,
            headers=identity(os.environ, preset),
            on_prompt=waiting.show,
            on_waiting=waiting.tick,
        )
        waiting.end()
        store = own_store(os.environ, preset)
        await store.save(credential)
    except LoginRequired as error:
        waiting.end()
        raise CommandError(str(error), LOGIN_REQUIRED) from None
    except (StoreError, ValueError) as error:
        waiting.end()
        raise CommandError(str(error), USAGE) from None
    except RxAuthError as error:
        waiting.end()
        raise CommandError(str(error), FAILED) from None
    print(f"Logged in at {name}. The credential is in {store.describe()}.")
    return DONE


class _Waiting:
    """Shows the code and the address, and one line that says how long it has been waiting."""

    def __init__(self, out: TextIO, *, browser: bool) -> None:
        self._out = out
        self._browser = browser
        self._one_line = out.isatty()
        self._shown = False

    def show(self, prompt: Any) -> None:
        self.end()
        address = prompt.verification_uri_complete or prompt.verification_uri
        print(f"Open   {prompt.verification_uri}\nEnter  {prompt.user_code}", file=self._out)
        if address != prompt.verification_uri:
            print(f"Or open {address}", file=self._out)
        if self._browser:
            import webbrowser

            with suppress(webbrowser.Error):
                webbrowser.open(address)

    def tick(self, waiting: Any) -> None:
        line = f"Waiting for you, {waiting.elapsed:.0f} s; the code is good for {waiting.remaining:.0f} s more."
        if waiting.trouble:
            line = f"{waiting.trouble} Trying again; the code is good for {waiting.remaining:.0f} s more."
        if self._one_line:
            print(f"\r\x1b[K{line}", end="", file=self._out, flush=True)
        elif not self._shown or waiting.trouble:
            print(line, file=self._out, flush=True)
        self._shown = True

    def end(self) -> None:
        if self._one_line and self._shown:
            print("\r\x1b[K", end="", file=self._out, flush=True)
        self._shown = False


def _logout(args: argparse.Namespace) -> int:
    from rxauth.endpoints import own_store, preset_named
    from rxauth.errors import StoreError

    try:
        store = own_store(os.environ, preset_named(args.provider))
        deleted = asyncio.run(store.delete())
    except (StoreError, ValueError) as error:
        raise CommandError(str(error), USAGE) from None
    where = store.describe()
    print(f"Deleted the credential of {args.provider} from {where}." if deleted else f"Nothing to delete in {where}.")
    return DONE


def _status(args: argparse.Namespace) -> int:
    from rxauth.endpoints import statuses

    found = asyncio.run(statuses(os.environ))
    if args.json:
        print(json.dumps({"credentials": [each.as_json() for each in found]}))
    elif not found:
        print("There are no credentials. Log in: `rxauth login kimi`, or set a provider's key: `rxauth stream --help`.")
    else:
        for each in found:
            print(each.sentence())
    return USAGE if any(each.trouble for each in found) else DONE


def _has_color(file: TextIO) -> bool:
    with suppress(ValueError, AttributeError):
        return file.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return False
