"""Print one access token, for a program that runs a command to get one."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from typing import TYPE_CHECKING

from rxauth.cli import screen
from rxauth.cli.exits import DONE, FAILED, CommandError, exit_code, sentences
from rxauth.cli.home import home
from rxauth.cli.logins import Login, Logins, logins_of
from rxauth.cli.printed import Printed
from rxauth.cli.running import run, run_without_loop

if TYPE_CHECKING:
    from rxauth.credentials import Credential, CredentialSource

__all__ = ["token"]

_MIN_TTL = 120.0  # s
_NEW = 10.0  # s; a token that was renewed so shortly ago is not the one that another caller saw refused


def token(args: Namespace) -> int:
    """Print one access token."""
    with sentences():
        logins = logins_of(args, os.environ)
        variable = logins.key_variable()
        if variable is not None:
            if args.rejected:
                raise CommandError(f"The key in {variable} was refused. {logins.next_action()}", FAILED)
            return _print(args, run_without_loop(lambda: logins.key(variable).current()))
        login = run_without_loop(logins.login)
        credential = login.credential
        printed = Printed(home(os.environ), logins.name, os.getppid(), args.started)
        refused = args.rejected and _was_refused(credential, printed)
        if refused or _left(credential) < _wanted(credential, args.min_ttl):
            source = logins.renewing(login)
            args.in_use.source, args.in_use.next_action = source, logins.next_action()
            credential = _renewed(logins, login, source, refused=refused)
        printed.remember(credential.access_token)
    return _print(args, credential)


def _was_refused(credential: Credential, printed: Printed) -> bool:
    """Return whether the stored token is the one that was refused, and not a newer one."""
    last = printed.is_last(credential.access_token)
    if last is not None:
        return last
    lifetime = credential.extra.get("expires_in")
    return not isinstance(lifetime, int | float) or lifetime - _left(credential) > _NEW


def _left(credential: Credential) -> float:
    return float("inf") if credential.expires_at is None else credential.expires_at - time.time()


def _wanted(credential: Credential, min_ttl: float | None) -> float:
    """Return the seconds that a token must have left; one that has just been renewed has enough in any case."""
    lifetime = credential.extra.get("expires_in")
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or lifetime <= 0:
        return _MIN_TTL if min_ttl is None else min_ttl
    return min(_MIN_TTL, lifetime / 2) if min_ttl is None else min(min_ttl, lifetime * 0.9)


def _renewed(logins: Logins, login: Login, source: CredentialSource, *, refused: bool) -> Credential:
    """Return a renewed credential, or the stored one while it is good."""
    from rxauth.errors import CredentialError, CredentialRejected, LoginRequired

    stored = login.credential
    needed = refused or stored.expired(time.time())
    rejected = CredentialRejected("The token was refused or is about to expire.", credential=stored)
    try:
        renewed = run(source.refresh(rejected))
    except CredentialError as error:
        if isinstance(error, LoginRequired):
            run(logins.note_end())
        if needed:
            action = f" {logins.next_action()}" if isinstance(error, LoginRequired) else ""
            raise CommandError(f"{error}{action}", exit_code(error)) from None
        screen.complain(f"{error} The token is still valid for {_left(stored):.0f} s.")
        return stored
    if renewed is None:
        if needed:
            raise LoginRequired(f"The token in {login.store.describe()} cannot be renewed. {logins.next_action()}")
        return stored
    return renewed


def _print(args: Namespace, credential: Credential) -> int:
    if not args.json:
        screen.write(credential.access_token)
        return DONE
    left = None if credential.expires_at is None else round(_left(credential), 1)
    fields = {"access_token": credential.access_token, "token_type": credential.token_type}
    screen.write(json.dumps({**fields, "expires_at": credential.expires_at, "expires_in": left}))
    return DONE
