"""Log in with a code in a browser, and log out."""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import webbrowser
from argparse import Namespace
from contextlib import suppress

from rxauth.cli import DONE, run, screen
from rxauth.cli.logins import Logins, logins_of
from rxauth.credentials import DevicePrompt, DeviceWaiting, KimiCodeStore, device_login
from rxauth.errors import LoginRequired, StoreError


def login(args: Namespace) -> int:
    """Log in with a code in a browser, and store the credential."""
    return run(_log_in(args))


async def _log_in(args: Namespace) -> int:
    if args.provider == "kimi":
        args.provider = await _deployment(args)
    elif args.region is not None:
        raise ValueError("--region is of kimi alone. Leave it out, or run `rxauth login kimi --region ...`.")
    logins = logins_of(args)
    app = logins.app
    if app is None:
        variable = logins.provider.key_env or "RXAUTH_TOKEN"
        raise ValueError(f"There is no login at {args.provider}. Set {variable} to an API key.")
    await _check_storable(logins)
    store = await logins.own_store(new=True)
    prompt = LoginPrompt(browser=not args.no_browser)
    try:
        credential = await device_login(
            device_url=app.device_url,
            token_url=app.token_url,
            client_id=app.client_id,
            scope=app.scope,
            headers=logins.headers(),
            on_prompt=prompt.show,
            on_waiting=prompt.tick,
            sleep=logins.sleep,
        )
    finally:
        prompt.end()
    await store.save(credential)
    screen.write(f"Logged in at {logins.name}. The credential is in {store.describe()}.")
    return DONE


async def _deployment(args: Namespace) -> str:
    """Return the name of Kimi's deployment in the given region, else of the one that kimi-code was installed for."""
    logins = logins_of(args)
    regions = logins.provider.regions
    if args.region is not None or not logins.at_usual_host():
        return regions[args.region or "mainland-cn"]
    noted = regions[KimiCodeStore.region() or "mainland-cn"]
    if noted != args.provider:
        with suppress(LoginRequired):  # kimi-code too goes by its region only before the first login
            await logins.load()
            return str(args.provider)
        screen.complain(f"kimi-code is installed for {noted} here; `--region mainland-cn` logs in at kimi.")
    return noted


async def _check_storable(logins: Logins) -> None:
    """Fail before a person goes to the browser, where nothing can be stored."""
    try:
        async with asyncio.timeout(1 * logins.pace), logins.stores()[0].locked():
            pass
    except TimeoutError:  # another process has the lock, so there can be one
        pass
    except StoreError as error:
        action = "Set RXAUTH_HOME to a directory that can be written." if logins.file is None else ""
        raise StoreError(f"{error} {action}".rstrip()) from None


class LoginPrompt:
    """Show the code and the address of a device login, and one line that says how long it has been waiting."""

    def __init__(self, *, browser: bool) -> None:
        self._browser = browser
        self._erase = "\r\x1b[K" if screen.can_erase(sys.stderr) else ""
        self._prompted = False
        self._waiting = False

    def show(self, prompt: DevicePrompt) -> None:
        """Show a code, and open the address in a browser."""
        self.end()
        if self._prompted:
            screen.aside("That code has expired. Here is a new one.")
        self._prompted = True
        address = prompt.verification_uri_complete or prompt.verification_uri
        screen.aside(f"Open   {prompt.verification_uri}\nEnter  {prompt.user_code}")
        if address != prompt.verification_uri:
            screen.aside(f"Or open {address}")
        if self._browser:
            with suppress(webbrowser.Error):
                webbrowser.open(address)

    def tick(self, waiting: DeviceWaiting) -> None:
        """Show how long the login has been waiting, and how long the code is good."""
        doing = f"{waiting.trouble} Trying again" if waiting.trouble else f"Waiting for you, {waiting.elapsed:.0f} s"
        line = f"{doing}; the code is good for {waiting.remaining:.0f} s more."
        if self._erase:
            # The next tick cannot erase a line that wraps.
            line = textwrap.shorten(line, max(8, shutil.get_terminal_size().columns - 1), placeholder="…")
            screen.aside(f"{self._erase}{line}", end="")
        elif not self._waiting or waiting.trouble:
            screen.aside(line)
        self._waiting = True

    def end(self) -> None:
        """Erase the waiting line."""
        if self._waiting:
            screen.aside(self._erase, end="")
        self._waiting = False


def logout(args: Namespace) -> int:
    """Delete the stored credential."""
    return run(_log_out(args))


async def _log_out(args: Namespace) -> int:
    logins = logins_of(args)
    store = await logins.own_store()
    where = store.describe()
    deleted = f"Deleted the credential of {logins.name} from {where}."
    screen.write(deleted if await store.delete() else f"Nothing to delete in {where}.")
    return DONE
