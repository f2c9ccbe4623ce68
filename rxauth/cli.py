"""The command line: the only place that prints.

Exit codes: 0 done, 1 the stream ended in an error, 2 usage or an unreadable credential file, 3 login required,
130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

from rxauth import __version__
from rxauth.credentials._single_flight import flights

if TYPE_CHECKING:
    from rxauth.credentials import CredentialStore
    from rxauth.demo import Scene
    from rxauth.endpoints import Endpoint

DONE, FAILED, USAGE, LOGIN_REQUIRED, INTERRUPTED = 0, 1, 2, 3, 130

MAX_TOKENS = 8192

T = TypeVar("T")


class CommandError(Exception):
    """One sentence for a person, and the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    # By default SIGTERM runs no Python at all: a token exchange under way would be lost, and the login with it.
    signal.signal(signal.SIGTERM, _terminated)
    _prepare_streams()
    _show_remarks_of_stores()
    try:
        args = _parser().parse_args(argv)
        code: int = args.run(args)
    except KeyboardInterrupt:
        with suppress(OSError):
            print(file=sys.stderr)
        if flights.unbreakable:
            _complain("A token refresh is finished first, so that the login is not lost; Ctrl-C again leaves at once.")
        return INTERRUPTED
    except CommandError as error:
        _complain(str(error))
        return error.code
    except BrokenPipeError:
        # Whoever read us has left; the interpreter must not fail over its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    finally:
        flights.close()
    return code


def _prepare_streams() -> None:
    """A stream that is closed takes everything and gives nothing; a character that an encoding lacks is escaped."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the process lives
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="backslashreplace")


def _complain(sentence: str) -> None:
    with suppress(OSError):  # then there is nobody to tell
        print(f"rxauth: {sentence}", file=sys.stderr, flush=True)


def _can_draw(out: TextIO) -> bool:
    try:
        "─│╰╯●‹›×…".encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _tell(text: str, end: str = "\n") -> None:
    """To standard output, at once."""
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"The output cannot be written: {error.strerror}. Write it elsewhere.", FAILED) from None


def _run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, without waiting at its end for a thread that still resolves a name: it may take half a minute."""

    async def run() -> T:
        asyncio.get_running_loop().set_default_executor(_Threads())
        return await work

    return asyncio.run(run())


class _Threads(ThreadPoolExecutor):
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def _show_remarks_of_stores() -> None:
    """What a store has to say to a person: that others could read the file. Errors come as sentences of their own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("rxauth: %(message)s"))
    remarks = logging.getLogger("rxauth.credentials._stores")
    remarks.handlers = [handler]


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What is too much is most often a prompt without quotes."""
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            raise CommandError(f"What is {shlex.join(rest)}? A prompt goes into quotes; see `rxauth --help`.", USAGE)
        return parsed

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Behind the help or the version: written out while it can still be said that it cannot."""
        _tell("", end="")
        super().exit(status, message)

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
    stream.add_argument(
        "--max-tokens",
        type=_positive,
        default=MAX_TOKENS,
        metavar="N",
        help=f"the longest answer, which anthropic-messages wants to be told; {MAX_TOKENS} if not given",
    )
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
    with suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")


# demo ----------------------------------------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> int:
    from rxauth.demo import run_demo

    scenes = _run(run_demo())
    if args.json:
        _tell(json.dumps({"scenes": [_scene_as_json(scene) for scene in scenes], "ok": scenes[-1].whole}))
    else:
        color = args.color == "always" or (args.color == "auto" and _has_color(sys.stdout))
        _tell("A token that has not expired on this machine, and is dead on the server.")
        _tell("The same question, asked three ways.\n")
        for scene in scenes:
            _tell_scene(scene, color)
        _tell("Your own streams:  stream.pipe(recover_auth(credentials.refresh))")
    return DONE if scenes[-1].whole else FAILED


def _tell_scene(scene: Scene, color: bool) -> None:
    bold, dim, plain = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if color else ("", "", "")
    _tell(f"{bold}{scene.name}{plain}\n{scene.remark}\n")
    _tell(scene.diagram.text(80, color=color, ascii_only=not _can_draw(sys.stdout)))
    _tell(f"\n{dim}saved in the transcript:{plain}")
    for number, entry in enumerate(scene.transcript, start=1):
        message = entry.message
        said = json.dumps(message.text, ensure_ascii=False) if message.text else "(empty)"
        fate = "never ended: a phantom" if entry.open else message.error_message or "complete"
        _tell(textwrap.fill(f"{number}. {said}  {fate}", 79, initial_indent="  ", subsequent_indent="     "))
    _tell("\n")


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
    if args.json and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as JSON is, whatever a terminal takes: RFC 8259 section 8.1
    return _run(_answer(args, prompt))


def _prompt(given: str) -> str:
    try:
        prompt = _standard_input() if given == "-" else given
        prompt.encode()
    except UnicodeError:
        raise CommandError("The prompt is not text: give it as UTF-8.", USAGE) from None
    if not prompt.strip():
        raise CommandError('The prompt is empty: say what to ask, as in `rxauth stream "hello"`.', USAGE)
    return prompt


def _standard_input() -> str:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    return sys.stdin.read()


async def _answer(args: argparse.Namespace, prompt: str) -> int:
    from rxauth.bridge import to_async_iterable
    from rxauth.events import to_json
    from rxauth.operators import recover_auth

    async with _endpoint(args) as endpoint:
        try:
            source = endpoint.stream(prompt, args.max_tokens)
        except (TypeError, ValueError) as error:
            raise CommandError(str(error), USAGE) from None
        screen = _Screen()
        async for event in to_async_iterable(source.pipe(recover_auth(endpoint.credentials.refresh))):
            if args.json:
                _tell(to_json(event))
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
        if args.base_url is not None or args.credentials is not None:
            own = "--provider fake has an address and a credential of its own"
            raise CommandError(f"{own}: leave out --base-url and --credentials.", USAGE)
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

    def __init__(self) -> None:
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if _has_color(sys.stderr) else ("", "")
        self._fresh_line = True

    def show(self, event: Any) -> None:
        match event.type:
            case "text_delta":
                _tell(event.delta, end="")
                self._fresh_line = event.delta.endswith("\n")
            case "text_end" | "error":
                if not self._fresh_line:
                    _tell("")
                    self._fresh_line = True
            case "thinking_delta":
                self._aside(event.delta, end="")
            case "thinking_end":
                self._aside("")
            case "toolcall_end":
                call = event.tool_call
                self._aside(f"[calls {call.name}({call.arguments_json})]")

    def _aside(self, text: str, end: str = "\n") -> None:
        with suppress(OSError):  # the answer is worth more than what is told beside it
            print(f"{self._dim}{text}{self._plain}", end=end, file=sys.stderr, flush=True)


def _failed(event: Any, endpoint: Endpoint) -> int:
    from rxauth.errors import CredentialError, CredentialRejected

    cause = event.cause
    sentence = event.error.error_message or "The stream failed."
    if isinstance(cause, CredentialRejected) and isinstance(cause.__cause__, CredentialError):
        cause = cause.__cause__  # why the credential could not be refreshed
        sentence = str(cause)
    if action := _next_action(cause, endpoint):
        stop = "" if sentence.endswith((".", "!", "?", "…")) else "."
        sentence = f"{sentence}{stop} {action}"
    _complain(sentence)
    return _exit_code(cause)


def _next_action(cause: object, endpoint: Endpoint) -> str:
    """What a person can do, where the sentence does not say it: the right side of the error tree."""
    from rxauth.errors import ConnectionFailed, CredentialRejected, LoginRequired, ProviderUnavailable, RequestRejected

    match cause:
        case CredentialRejected() | LoginRequired():
            return endpoint.next_action
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


def _exit_code(error: object) -> int:
    from rxauth.errors import LoginRequired, StoreError

    if isinstance(error, LoginRequired):
        return LOGIN_REQUIRED
    return USAGE if isinstance(error, StoreError) else FAILED


# login, logout, status -----------------------------------------------------------------------------------------------


def _login(args: argparse.Namespace) -> int:
    return _run(_log_in(args.provider, browser=not args.no_browser))


async def _log_in(name: str, *, browser: bool) -> int:
    from rxauth.credentials import device_login
    from rxauth.endpoints import identity, oauth_app, own_store, preset_named
    from rxauth.errors import LoginRequired, RxAuthError, StoreError

    try:
        preset = preset_named(name)
        app = oauth_app(os.environ, preset)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    if app is None:
        raise CommandError(f"One cannot log in at {name}: set {preset.key_env} to an API key.", USAGE)
    waiting = _Waiting(sys.stderr, browser=browser)
    try:
        store = own_store(os.environ, preset)
        await _check_storable(store)
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
    _tell(f"Logged in at {name}. The credential is in {store.describe()}.")
    return DONE


async def _check_storable(store: CredentialStore) -> None:
    """Where nothing can be stored, that is said before somebody has gone to the browser and back."""
    from rxauth.errors import StoreError

    try:
        async with asyncio.timeout(1), store.locked():
            pass
    except TimeoutError:  # another process has the lock: there can be one
        pass
    except StoreError as error:
        raise CommandError(f"{error} Set RXAUTH_HOME to a directory that can be written.", USAGE) from None


class _Waiting:
    """Shows the code and the address, and one line that says how long it has been waiting."""

    def __init__(self, out: TextIO, *, browser: bool) -> None:
        self._out = out
        self._browser = browser
        self._one_line = out.isatty() and not _is_dumb()
        self._prompted = False
        self._shown = False

    def show(self, prompt: Any) -> None:
        self.end()
        if self._prompted:
            print("That code has expired. Here is a new one.", file=self._out)
        self._prompted = True
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
            # A line that wraps cannot be taken back.
            line = textwrap.shorten(line, max(8, shutil.get_terminal_size().columns - 1), placeholder="…")
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
        deleted = _run(store.delete())
    except (StoreError, ValueError) as error:
        raise CommandError(str(error), USAGE) from None
    where = store.describe()
    _tell(f"Deleted the credential of {args.provider} from {where}." if deleted else f"Nothing to delete in {where}.")
    return DONE


def _status(args: argparse.Namespace) -> int:
    from rxauth.endpoints import statuses
    from rxauth.errors import StoreError

    try:
        found = _run(statuses(os.environ))
    except StoreError as error:
        raise CommandError(str(error), USAGE) from None
    if args.json:
        _tell(json.dumps({"credentials": [each.as_json() for each in found]}))
    elif not found:
        _tell("There are no credentials. Log in: `rxauth login kimi`, or set a provider's key: `rxauth stream --help`.")
    else:
        for each in found:
            if each.trouble is None:
                _tell(each.sentence())
    troubles = dict.fromkeys(each.trouble for each in found if each.trouble is not None)
    for trouble in troubles:  # one file may be the trouble of several providers
        _complain(trouble)
    return USAGE if troubles else DONE


def _has_color(file: TextIO) -> bool:
    with suppress(ValueError, AttributeError):
        return file.isatty() and not os.environ.get("NO_COLOR") and not _is_dumb()
    return False


def _is_dumb() -> bool:
    return os.environ.get("TERM") == "dumb"
