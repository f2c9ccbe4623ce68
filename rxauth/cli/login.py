"""Log in with a code in a browser, and log out."""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import Namespace
from contextlib import suppress

from rxauth.cli import screen
from rxauth.cli.logins import logins_of
from rxauth.cli.running import DONE, CommandError, run
from rxauth.credentials import CredentialStore, KimiCodeStore, device_login
from rxauth.errors import LoginRequired, StoreError


def login(args: Namespace) -> int:
    """Log in with a code in a browser, and store the credential."""
    return run(_log_in(args))


async def _log_in(args: Namespace) -> int:
    if args.provider == "kimi":
        args.provider = await _deployment(args)
    logins = logins_of(args)
    app = logins.app
    if app is None:
        variable = logins.preset.key_env or "RXAUTH_TOKEN"
        raise CommandError(f"There is no login at {args.provider}. Set {variable} to an API key.")
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
    logins = logins_of(args)
    regions = logins.preset.regions
    if args.region is not None or not logins.at_usual_host():
        return regions[args.region or "mainland-cn"]
    noted = regions[KimiCodeStore.region(environ=os.environ) or "mainland-cn"]
    if noted != args.provider:
        with suppress(LoginRequired):  # kimi-code too goes by its region only before the first login
            await logins.load()
            return str(args.provider)
        screen.complain(f"kimi-code is installed for {noted} here; `--region mainland-cn` logs in at kimi.")
    return noted


async def _check_storable(store: CredentialStore, args: Namespace) -> None:
    """Fail before a person goes to the browser, where nothing can be stored."""
    try:
        async with asyncio.timeout(1), store.locked():
            pass
    except TimeoutError:  # another process has the lock, so there can be one
        pass
    except StoreError as error:
        action = "Set RXAUTH_HOME to a directory that can be written." if args.credentials is None else ""
        raise CommandError(f"{error} {action}".rstrip()) from None


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
