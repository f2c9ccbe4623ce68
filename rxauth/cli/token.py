"""Print one access token, for a program that runs a command to get one."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from rxauth.cli import DONE, notes, run, run_without_loop, screen
from rxauth.cli.logins import Logins, logins_of
from rxauth.errors import CredentialError, CredentialRejected, LoginRequired

if TYPE_CHECKING:
    from rxauth.credentials import Credential

_MIN_TTL = 120.0  # s
_NEW = 10.0  # s; a token that was renewed so shortly ago is not the one that another caller saw refused


def token(args: Namespace) -> int:
    """Print one access token."""
    logins = logins_of(args)
    key = logins.key()
    if key is None:
        credential = _stored(args, logins)
    elif args.rejected:
        raise CredentialError(f"The key was refused. {logins.next_action()}")
    else:
        credential = run_without_loop(key.current)
    if args.json:
        left = None if credential.expires_at is None else round(_left(credential), 1)
        fields = {"access_token": credential.access_token, "token_type": credential.token_type}
        screen.write(json.dumps({**fields, "expires_at": credential.expires_at, "expires_in": left}))
    else:
        screen.write(credential.access_token)
    return DONE


def _stored(args: Namespace, logins: Logins) -> Credential:
    """Return the stored credential, renewed if it was refused or ends too soon, and note that the caller got it."""
    started = _process_start() if args.argv is None else time.time()
    credential, caller = run_without_loop(logins.load), os.getppid()
    left = _left(credential)
    expires_in = credential.extra.get("expires_in")
    lifetime = expires_in if isinstance(expires_in, int | float) and expires_in > 0 else inf
    refused = False
    if args.rejected:
        # A caller that starts several processes at once means an older token than the one that the first prints.
        printed = notes.has_printed(logins.name, caller, credential.access_token, before=started)
        age = lifetime - left if lifetime < inf and left < inf else inf
        # A token that has just been renewed is not the one that an unknown caller saw refused.
        refused = age > _NEW if printed is None else printed
    # One that has just been renewed has enough left in any case.
    wanted = min(_MIN_TTL, lifetime / 2) if args.min_ttl is None else min(args.min_ttl, lifetime * 0.9)
    if refused or left < wanted:
        credential = _renewed(logins, credential, needed=refused or left <= 0)
    notes.note_printed(logins.name, caller, credential.access_token)
    return credential


def _renewed(logins: Logins, stored: Credential, *, needed: bool) -> Credential:
    """Return a renewed credential, or the stored one while it is good."""
    rejected = CredentialRejected("The token was refused or is about to expire.", credential=stored)
    try:
        renewed = run(logins.renewing(stored).refresh(rejected))
    except CredentialError as error:
        if isinstance(error, LoginRequired):
            run(logins.note_end())
            error = LoginRequired(f"{error} {logins.next_action()}")
        if needed:
            raise error from None
        screen.complain(f"{error} The token is still valid for {_left(stored):.0f} s.")
        return stored
    if renewed is None and needed:
        raise LoginRequired(f"The token in {logins.store.describe()} cannot be renewed. {logins.next_action()}")
    return renewed or stored


def _left(credential: Credential) -> float:
    return inf if credential.expires_at is None else credential.expires_at - time.time()


def _process_start() -> float:
    """Return the Unix time at which this process was started, or a little later."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)  # first: a pause here must not make the start earlier
        return time.time() - since_boot + (ticks + 1) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):  # not on Linux
        return time.time()
