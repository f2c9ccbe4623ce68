"""Print one access token, for a program that runs a command to get one."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from typing import TYPE_CHECKING

from rxauth.cli import screen
from rxauth.cli.home import Notes, home
from rxauth.cli.logins import Logins, logins_of
from rxauth.cli.running import DONE, FAILED, CommandError, exit_code, run, run_without_loop
from rxauth.errors import CredentialError, CredentialRejected, LoginRequired

if TYPE_CHECKING:
    from rxauth.credentials import Credential

_MIN_TTL = 120.0  # s
_NEW = 10.0  # s; a token that was renewed so shortly ago is not the one that another caller saw refused


def token(args: Namespace) -> int:
    """Print one access token."""
    logins = logins_of(args)
    if key := logins.key():
        if args.rejected:
            raise CommandError(f"The key was refused. {logins.next_action()}", FAILED)
        credential = run_without_loop(key.current)
    else:
        credential = run_without_loop(logins.load)
        notes, caller = Notes(home(os.environ)), os.getppid()
        refused = args.rejected and _is_refused(
            credential, notes.has_printed(logins.name, caller, credential.access_token, before=args.started)
        )
        if refused or _left(credential) < _wanted(credential, args.min_ttl):
            credential = _renewed(logins, credential, needed=refused or credential.expired(time.time()))
        notes.add_printed(logins.name, caller, credential.access_token)
    if args.json:
        left = None if credential.expires_at is None else round(_left(credential), 1)
        fields = {"access_token": credential.access_token, "token_type": credential.token_type}
        screen.write(json.dumps({**fields, "expires_at": credential.expires_at, "expires_in": left}))
    else:
        screen.write(credential.access_token)
    return DONE


def _is_refused(credential: Credential, printed: bool | None) -> bool:
    """Return whether the stored token is the one that a server refused, and not a newer one.

    A caller that starts several processes at once means an older token than the one that the first of them prints.
    """
    if printed is not None:
        return printed
    lifetime = _lifetime(credential)
    return lifetime is None or lifetime - _left(credential) > _NEW


def _left(credential: Credential) -> float:
    return float("inf") if credential.expires_at is None else credential.expires_at - time.time()


def _lifetime(credential: Credential) -> float | None:
    seconds = credential.extra.get("expires_in")
    return seconds if isinstance(seconds, int | float) and seconds > 0 else None


def _wanted(credential: Credential, min_ttl: float | None) -> float:
    """Return the seconds that a token must have left; one that has just been renewed has enough in any case."""
    lifetime = _lifetime(credential) or float("inf")
    return min(_MIN_TTL, lifetime / 2) if min_ttl is None else min(min_ttl, lifetime * 0.9)


def _renewed(logins: Logins, stored: Credential, *, needed: bool) -> Credential:
    """Return a renewed credential, or the stored one while it is good."""
    rejected = CredentialRejected("The token was refused or is about to expire.", credential=stored)
    try:
        renewed = run(logins.renewing(stored).refresh(rejected))
    except CredentialError as error:
        ended = isinstance(error, LoginRequired)
        if ended:
            run(logins.note_end())
        if needed:
            raise CommandError(f"{error} {logins.next_action()}" if ended else str(error), exit_code(error)) from None
        screen.complain(f"{error} The token is still valid for {_left(stored):.0f} s.")
        return stored
    if renewed is None and needed:
        raise LoginRequired(f"The token in {logins.store.describe()} cannot be renewed. {logins.next_action()}")
    return renewed or stored
