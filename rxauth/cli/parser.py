"""Read the command line."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from rxauth import __version__
from rxauth.cli import screen
from rxauth.cli.running import CommandError

__all__ = ["parse"]

MAX_TOKENS = 8192

_EPILOG = """\
environment:
  RXAUTH_HOME           directory of the logins; default: ~/.rxauth
  RXAUTH_TOKEN          a token or key, used before any other
  KIMI_API_KEY, ANTHROPIC_API_KEY, OPENAI_API_KEY
                        a provider's key, used before a login
  KIMI_CODE_OAUTH_HOST  another login host of Kimi (or KIMI_OAUTH_HOST)
  KIMI_CODE_BASE_URL    another address of Kimi's API
  A login is sent only to the host that it was made at.

exit codes:
  0 done, 1 the stream ended in an error, 2 usage or a credential file that
  cannot be used, 3 login required, 130 interrupted, 143 terminated
"""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse(argv: Sequence[str] | None, args: argparse.Namespace) -> argparse.Namespace:
    """Put the arguments of a command into `args`, and return it; `run` is the function that carries it out.

    Raises:
        CommandError: they are not a command.
        SystemExit: they ask for the help or the version, which has been written.
    """
    parser = _Parser(
        prog="rxauth",
        description="Survive an expired token in a stream.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rxauth {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="show the problem and its solution on an embedded provider")
    demo.add_argument("--json", action="store_true", help="print JSON")
    demo.add_argument("--color", choices=["auto", "always", "never"], default="auto")
    demo.set_defaults(run=_command("demo"))

    stream = commands.add_parser("stream", help="stream an answer to the terminal")
    stream.add_argument("prompt", metavar="PROMPT", help="the question; - reads it from standard input")
    stream.add_argument("--provider", metavar="NAME", help="kimi, kimi-global, anthropic, openai, or fake (embedded)")
    stream.add_argument("--base-url", metavar="URL", help="the address of any compatible server")
    stream.add_argument("--protocol", choices=["anthropic-messages", "openai-chat"])
    _add_login(stream)
    stream.add_argument("--model", help="default: the provider's usual model")
    stream.add_argument(
        "--max-tokens",
        type=_positive,
        default=MAX_TOKENS,
        metavar="N",
        help=f"the longest answer that anthropic-messages may give; default: {MAX_TOKENS}",
    )
    stream.add_argument("--json", action="store_true", help="print one event per line")
    stream.set_defaults(run=_command("stream"))

    login = commands.add_parser("login", help="log in with a code in a browser on this or another device")
    _add_provider(login)
    _add_login(login)
    login.add_argument("--region", choices=["mainland-cn", "global"], help="of kimi: global is the same as kimi-global")
    login.add_argument("--no-browser", action="store_true", help="show the address, but do not open it")
    login.set_defaults(run=_command("login"))

    logout = commands.add_parser("logout", help="delete the stored login of a provider")
    _add_provider(logout)
    _add_login(logout, header=False)
    logout.set_defaults(run=_command("logout", "login"))

    token = commands.add_parser("token", help="print one access token, for a program that runs a command to get one")
    _add_provider(token)
    _add_login(token)
    token.add_argument(
        "--min-ttl",
        type=_duration,
        metavar="TIME",
        help="renew a token that is valid for less, such as 10m; default: 2m, or half of its lifetime if that is less",
    )
    token.add_argument(
        "--rejected", action="store_true", help="a server refused the token that was printed last: renew it"
    )
    token.add_argument("--json", action="store_true", help="print JSON, with the expiry")
    token.set_defaults(run=_command("token"))

    status = commands.add_parser("status", help="list the stored credentials: where they are and how long they last")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_command("status"))
    parser.parse_args(argv, args)
    return args


def _command(name: str, module: str | None = None) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        # Not before the arguments are known to be good: a module of commands takes longer to import than to parse them.
        code: int = getattr(import_module(f"rxauth.cli.{module or name}"), name)(args)
        return code

    return run


def _add_provider(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("provider", nargs="?", default="kimi", metavar="PROVIDER", help="default: kimi")


def _add_login(parser: argparse.ArgumentParser, *, header: bool = True) -> None:
    parser.add_argument("--account", type=_account, metavar="NAME", help="one of several logins at the same provider")
    parser.add_argument("--credentials", type=Path, metavar="FILE", help="default: in $RXAUTH_HOME, else in ~/.rxauth")
    if header:
        parser.add_argument(
            "--header",
            action="append",
            type=_header,
            metavar="'NAME: VALUE'",
            help="one more header of every request, also for a token; may be repeated",
        )


def _account(text: str) -> str:
    if text and text.isprintable() and not set(text) & {"/", "@", " "}:
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not a name: no spaces, no / and no @")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    token = name.replace("-", "").replace("_", "")
    if colon and token.isascii() and token.isalnum() and value.strip().isascii() and value.strip().isprintable():
        return name, value.strip()
    raise argparse.ArgumentTypeError(
        "it is not of the form 'Name: value' in ASCII"
    )  # without the value: it may be secret


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Say that a prompt needs quotes where there are more words than arguments."""
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            words = shlex.join(rest)
            raise CommandError(f"Unexpected: {words}. Put a prompt into quotes; see `rxauth --help`.")
        return parsed

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Flush the help or the version, so that a full disk is reported."""
        screen.write("", end="")
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        """Report one sentence, not the whole usage."""
        raise CommandError(f"{message}. See `{self.prog} --help`.")


def _duration(text: str) -> float:
    with suppress(ValueError):
        number = float(text.rstrip("smhd"))
        unit = text[len(text.rstrip("smhd")) :] or "s"
        if number >= 0 and math.isfinite(number) and unit in _UNITS:
            return number * _UNITS[unit]
    raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 10m or 1h")


def _positive(text: str) -> int:
    with suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
