"""Read the command line."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rxauth import __version__
from rxauth.cli import screen

_EPILOG = """\
environment:
  RXAUTH_HOME           directory of the logins; default: ~/.rxauth
  RXAUTH_TOKEN          a token or key, used before any other
  KIMI_API_KEY, ANTHROPIC_API_KEY, OPENAI_API_KEY
                        a provider's key, used before a login
  KIMI_CODE_OAUTH_HOST  another login host of Kimi (or KIMI_OAUTH_HOST)
  KIMI_CODE_BASE_URL    another address of Kimi's API
  A login that names its host is sent to no other.

exit codes:
  0 done, 1 an error of the stream or the network, 2 usage or a credential
  file that cannot be used, 3 login required, 130 interrupted, 143 terminated
"""


def parse(args: argparse.Namespace) -> None:
    """Put the arguments of a command into `args`, with the module and the name of the function that carries it out."""
    parser = _Parser(
        prog="rxauth",
        description="Survive an expired token in a stream.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rxauth {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, help: str, module: str | None = None) -> Callable[..., object]:
        added = commands.add_parser(name, help=help)
        added.set_defaults(module=module or name, function=name)
        return added.add_argument

    add = command("demo", "show the problem and its solution on an embedded provider")
    add("--json", action="store_true", help="print JSON")
    add("--color", choices=["auto", "always", "never"], default="auto")

    add = command("stream", "stream an answer to the terminal")
    add("prompt", metavar="PROMPT", help="the question; - reads it from standard input")
    add("--provider", metavar="NAME", help="kimi, kimi-global, anthropic, openai, or fake (embedded)")
    add("--base-url", metavar="URL", help="the address of any compatible server")
    protocol = "default: that of the provider; anthropic-messages at an unknown --base-url"
    add("--protocol", choices=["anthropic-messages", "openai-chat"], help=protocol)
    _add_login(add)
    _add_header(add)
    add("--model", help="default: the provider's usual model")
    max_tokens = "the longest answer that anthropic-messages may give; default: %(default)s"
    add("--max-tokens", type=_positive, default=8192, metavar="N", help=max_tokens)
    add("--json", action="store_true", help="print one event per line")

    add = command("login", "log in with a code in a browser on this or another device")
    _add_provider(add)
    _add_header(add)
    add("--region", choices=["mainland-cn", "global"], help="of kimi: global is the same as kimi-global")
    add("--no-browser", action="store_true", help="show the address, but do not open it")

    _add_provider(command("logout", "delete the stored login of a provider", "login"))

    add = command("token", "print one access token, for a program that runs a command to get one")
    _add_provider(add)
    _add_header(add)
    min_ttl = "renew a token that is valid for less, such as 10m; default: 2m, or half of its lifetime if that is less"
    add("--min-ttl", type=_duration, metavar="TIME", help=min_ttl)
    add("--rejected", action="store_true", help="a server refused the token that was printed last: renew it")
    add("--json", action="store_true", help="print JSON, with the expiry")

    add = command("status", "list the stored credentials: where they are and how long they last")
    add("--json", action="store_true", help="print JSON")
    _, rest = parser.parse_known_args(args.argv, args)
    if rest:
        raise ValueError(f"Unexpected: {shlex.join(rest)}. Put a prompt into quotes; see `rxauth --help`.")


def _add_provider(add: Callable[..., object]) -> None:
    add("provider", nargs="?", default="kimi", metavar="PROVIDER", help="a name, or a base URL; default: kimi")
    _add_login(add)


def _add_login(add: Callable[..., object]) -> None:
    add("--account", type=_account, metavar="NAME", help="one of several logins at the same provider")
    add("--credentials", type=Path, metavar="FILE", help="default: in $RXAUTH_HOME, else in ~/.rxauth")


def _add_header(add: Callable[..., object]) -> None:
    every = "one more header of every request, also for a token; may be repeated"
    add("--header", action="append", type=_header, metavar="'NAME: VALUE'", help=every)


class _Parser(argparse.ArgumentParser):
    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Flush the help or the version, so that a full disk is reported."""
        screen.write("", end="")
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        """Report one sentence, not the whole usage."""
        raise ValueError(f"{message}. See `{self.prog} --help`.")


def _account(text: str) -> str:
    if text.isprintable() and re.fullmatch("[^/@ ]+", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not a name: no spaces, no / and no @")


def _header(text: str) -> tuple[str, str]:
    if match := re.fullmatch(r"([A-Za-z0-9_-]+): *([ -~]+?) *", text):
        return match[1], match[2]
    # without the value: it may be secret
    raise argparse.ArgumentTypeError("it is not of the form 'Name: value' in ASCII")


def _duration(text: str) -> float:
    if match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text):
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 10m or 1h")


def _positive(text: str) -> int:
    if re.fullmatch("0*[1-9][0-9]{0,17}", text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
