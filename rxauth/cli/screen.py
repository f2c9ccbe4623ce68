"""Write to the terminal, or to the file or pipe in its place."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from rxauth.cli.running import FAILED, CommandError

if TYPE_CHECKING:
    from rxauth.credentials import DevicePrompt, DeviceWaiting


def prepare_streams() -> None:
    """Open standard streams that are closed on the null device, and escape characters that an encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - open as long as the process lives
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="backslashreplace")


def show_remarks() -> None:
    """Write to standard error what the library logs for a person: an odd credential file, an unsaved login."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("rxauth: %(message)s"))
    stores = "rxauth.credentials._stores"
    handler.addFilter(lambda record: record.name.startswith(stores) or record.levelno >= logging.ERROR)
    logging.getLogger("rxauth.credentials").handlers = [handler]


def write(text: str, end: str = "\n") -> None:
    """Write to standard output at once."""
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"The output cannot be written: {error.strerror}. Write it elsewhere.", FAILED) from None


def complain(sentence: str) -> None:
    """Write one sentence to standard error."""
    aside(f"rxauth: {sentence}")


def aside(text: str, end: str = "\n") -> None:
    """Write to standard error."""
    with suppress(OSError):  # standard error is closed or full; the answer goes on without it
        print(text, end=end, file=sys.stderr, flush=True)


def can_draw(out: TextIO) -> bool:
    """Return whether the encoding of `out` has the characters of a diagram."""
    try:
        "─│╰╯●‹›×…".encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def width(out: TextIO) -> int:
    """Return the columns to fill: at most 80, fewer in a narrow terminal."""
    return min(80, max(40, shutil.get_terminal_size().columns)) if out.isatty() else 80


def has_color(out: TextIO) -> bool:
    """Return whether `out` is a terminal that shows colors, and NO_COLOR does not forbid them."""
    return _can_erase(out) and not os.environ.get("NO_COLOR")


def _can_erase(out: TextIO) -> bool:
    return out.isatty() and os.environ.get("TERM") != "dumb"


class Answer:
    """Show events as they arrive: text on standard output, thinking and tool calls on standard error."""

    def __init__(self) -> None:
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if has_color(sys.stderr) else ("", "")
        self._at_line_start = True

    def show(self, event: Any) -> None:
        """Show one event."""
        match event.type:
            case "text_delta":
                write(event.delta, end="")
                self._at_line_start = event.delta.endswith("\n")
            case "text_end" | "error" if not self._at_line_start:
                write("")
                self._at_line_start = True
            case "thinking_delta":
                aside(f"{self._dim}{event.delta}{self._plain}", end="")
            case "thinking_end":
                aside("")
            case "toolcall_end":
                call = event.tool_call
                aside(f"{self._dim}[calls {call.name}({call.arguments_json})]{self._plain}")


class LoginPrompt:
    """Show the code and the address of a device login, and one line that says how long it has been waiting."""

    def __init__(self, out: TextIO, *, browser: bool) -> None:
        self._out = out
        self._browser = browser
        self._one_line = _can_erase(out)
        self._prompted = False
        self._waiting = False

    def show(self, prompt: DevicePrompt) -> None:
        """Show a code, and open the address in a browser."""
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

    def tick(self, waiting: DeviceWaiting) -> None:
        """Show how long the login has been waiting, and how long the code is good."""
        import textwrap

        doing = f"{waiting.trouble} Trying again" if waiting.trouble else f"Waiting for you, {waiting.elapsed:.0f} s"
        line = f"{doing}; the code is good for {waiting.remaining:.0f} s more."
        if self._one_line:
            # The next tick cannot erase a line that wraps.
            line = textwrap.shorten(line, max(8, shutil.get_terminal_size().columns - 1), placeholder="…")
            print(f"\r\x1b[K{line}", end="", file=self._out, flush=True)
        elif not self._waiting or waiting.trouble:
            print(line, file=self._out, flush=True)
        self._waiting = True

    def end(self) -> None:
        """Erase the waiting line."""
        if self._one_line and self._waiting:
            print("\r\x1b[K", end="", file=self._out, flush=True)
        self._waiting = False
