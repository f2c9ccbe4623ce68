"""Logins, 401s, refreshes, expiries, rotations elsewhere, outages and logouts, in any order."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rxauth.credentials import Credential, CredentialStore, FileStore, MemoryStore, OAuthCredentials
from rxauth.errors import CredentialError, LoginRequired, RefreshFailed
from tests.credentials.oauth import Time, background, rejected, source
from tests.credentials.token_server import TokenServer, running

pytestmark = pytest.mark.slow

LIFETIME = 900.0


class Logins(RuleBasedStateMachine):
    """Two programs, `ours`, share a store; the server knows which token is good."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = contextlib.ExitStack()
        self.server = self.undo.enter_context(running(TokenServer()))
        self.server.expires_in = LIFETIME
        self.loop = self.undo.enter_context(asyncio.Runner())
        self.now = Time()
        self.store = self.make_store()
        self.ours = [self.program() for _ in range(2)]
        self.invalid: set[str] = set()
        self.past: list[Credential] = []
        self.jumped = self.refused = False

    def make_store(self) -> CredentialStore:
        return MemoryStore()

    def program(self) -> OAuthCredentials:
        return source(self.server, self.store, self.now)

    def teardown(self) -> None:
        self.undo.close()

    @property
    def stored(self) -> Credential | None:
        return self.loop.run(self.store.load())

    def good(self, credential: Credential) -> bool:
        """Whether an API takes it."""
        valid = self.server.valid
        return valid is not None and credential.access_token == valid.access_token not in self.invalid

    def ask(self, work: Any) -> Credential | CredentialError | None:
        async def outcome() -> Any:
            try:
                return await work
            except CredentialError as error:
                return error

        return self.loop.run(outcome())  # type: ignore[no-any-return]

    # People, servers and time --------------------------------------------------------------------------------------

    @initialize()
    def the_first_login(self) -> None:
        self.log_in()

    @precondition(lambda self: self.stored is None or self.server.revoked)
    @rule()
    def log_in(self) -> None:
        credential = self.server.credential(expires_at=self.now.wall + LIFETIME)
        self.loop.run(self.store.save(credential))
        self.past.append(credential)

    @precondition(lambda self: self.stored is not None)
    @rule()
    def log_out(self) -> None:
        self.loop.run(self.store.delete())

    @rule(seconds=st.sampled_from([1.0, 11.0, 300.0, 700.0, 800.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now.pass_by(seconds)

    @rule(seconds=st.sampled_from([-7200.0, -60.0, 60.0, 7200.0]))
    def the_clock_jumps(self, seconds: float) -> None:
        self.now.wall += seconds
        self.jumped = True

    @rule(times=st.integers(1, 4))
    def the_server_is_busy(self, times: int) -> None:
        self.server.answers[:] = [{"status": 503}] * times

    @rule(status=st.sampled_from([403, 429]), seconds=st.sampled_from(["20", "300"]))
    def the_server_refuses_for_now(self, status: int, seconds: str) -> None:
        self.server.answers[:] = [{"status": status, "headers": {"Retry-After": seconds}}]
        self.refused = True

    @rule()
    def the_access_token_is_invalidated(self) -> None:
        if self.server.valid is not None:
            self.invalid.add(self.server.valid.access_token)

    @precondition(lambda self: self.stored is not None)
    @rule()
    def the_login_is_revoked(self) -> None:
        self.server.revoked = True

    @precondition(lambda self: self.stored is not None and not self.server.revoked and self.server.valid is not None)
    @rule()
    def another_program_rotates(self) -> None:
        theirs = self.server.rotate()
        theirs = Credential(theirs.access_token, theirs.refresh_token, self.now.wall + LIFETIME)
        self.loop.run(self.store.save(theirs))
        self.past.append(theirs)

    # Our programs --------------------------------------------------------------------------------------------------

    @rule(who=st.integers(0, 1), askers=st.integers(1, 5))
    def a_request_with_a_token_that_was_invalidated(self, who: int, askers: int) -> None:
        self.the_access_token_is_invalidated()
        self.a_request(who, askers)

    @rule(who=st.integers(0, 1), askers=st.integers(1, 5))
    def a_request(self, who: int, askers: int) -> None:
        """Take the current credential, and after a 401 a new one, as a stream does."""
        busy = len(self.server.answers)
        before = self.stored
        given = self.ask(self.ours[who].current())
        background()  # a refresh in the background, if there is one
        if isinstance(given, CredentialError):
            self.check_failure(given, busy, before)
            return
        assert given is not None
        assert before is not None, "after a logout nothing is given out"
        self.past.append(given)
        if self.good(given):
            return
        busy = len(self.server.answers)
        requests = len(self.server.requests)
        before = self.stored

        async def all_ask() -> list[Any]:
            work = [self.ours[who].refresh(rejected(given)) for _ in range(askers)]
            return await asyncio.gather(*work, return_exceptions=True)

        outcomes = self.loop.run(all_ask())
        assert len({repr(outcome) for outcome in outcomes}) == 1
        assert len(self.server.requests) - requests <= 3
        outcome = outcomes[0]
        if isinstance(outcome, CredentialError):
            self.check_failure(outcome, busy, before)
            return
        self.check_news(given, outcome)

    @precondition(lambda self: self.past)
    @rule(who=st.integers(0, 1), data=st.data())
    def a_late_failure(self, who: int, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.past))
        busy, requests, before = len(self.server.answers), len(self.server.requests), self.stored
        new_was_there = before is not None and before != old and not before.expired(self.now.wall)
        outcome = self.ask(self.ours[who].refresh(rejected(old)))
        if isinstance(outcome, CredentialError):
            self.check_failure(outcome, busy, before)
            return
        self.check_news(old, outcome)
        if new_was_there and not self.jumped:
            assert len(self.server.requests) == requests

    @rule(who=st.integers(0, 1))
    def a_program_is_started_anew(self, who: int) -> None:
        self.ours[who] = self.program()

    # Invariants ----------------------------------------------------------------------------------------------------

    def check_news(self, old: Credential, new: Credential | None) -> None:
        assert new is not None
        assert new.access_token != old.access_token
        stored = self.stored
        assert stored is not None
        assert stored.access_token == new.access_token
        self.past.append(new)

    def check_failure(self, error: CredentialError, busy: int, before: Credential | None) -> None:
        if isinstance(error, LoginRequired):
            assert before is None or self.server.revoked
        else:
            assert isinstance(error, RefreshFailed)
            assert busy >= 3 or self.refused

    @invariant()
    def no_refresh_token_is_spent_twice(self) -> None:
        background()
        assert self.server.reused == []

    @invariant()
    def what_is_stored_is_the_newest(self) -> None:
        stored, valid = self.stored, self.server.valid
        if stored is not None:
            assert valid is not None
            assert stored.refresh_token == valid.refresh_token


class LoginsInAFile(Logins):
    def make_store(self) -> CredentialStore:
        directory = Path(self.undo.enter_context(tempfile.TemporaryDirectory()))
        return FileStore(directory / "auth.json", "key")


_SETTINGS = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)

TestLogins = Logins.TestCase
TestLogins.settings = _SETTINGS
TestLoginsInAFile = LoginsInAFile.TestCase
TestLoginsInAFile.settings = settings(_SETTINGS, max_examples=30)
