"""Logins, 401s, refreshes, expiries, rotations elsewhere, outages and logouts, in any order."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rxauth.credentials import Credential, MemoryStore
from rxauth.errors import CredentialError, LoginRequired, RefreshFailed
from tests.credentials.oauth import Time, background, rejected, source
from tests.credentials.token_server import TokenServer, running

pytestmark = pytest.mark.slow

LIFETIME = 900.0

stored_only = precondition(lambda self: self.stored is not None)
programs = st.integers(0, 1)


class Logins(RuleBasedStateMachine):
    """Two programs, `ours`, share a store; the server knows which token is good."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = contextlib.ExitStack()
        self.server = self.undo.enter_context(running(TokenServer()))
        self.server.expires_in = LIFETIME
        self.loop = self.undo.enter_context(asyncio.Runner())
        self.now = Time()
        self.store = MemoryStore()
        self.ours = [source(self.server, self.store, self.now) for _ in range(2)]
        self.invalid: set[str] = set()
        self.past: list[Credential] = []
        self.jumped = self.refused = False

    def teardown(self) -> None:
        self.undo.close()

    @property
    def stored(self) -> Credential | None:
        return self.loop.run(self.store.load())

    # People, servers and time --------------------------------------------------------------------------------------

    @initialize()
    def the_first_login(self) -> None:
        self.store_from_elsewhere(self.server.credential())

    def store_from_elsewhere(self, issued: Credential) -> None:
        credential = Credential(issued.access_token, issued.refresh_token, self.now.wall + LIFETIME)
        self.loop.run(self.store.save(credential))
        self.past.append(credential)

    @precondition(lambda self: self.stored is None or self.server.revoked)
    @rule()
    def log_in(self) -> None:
        self.store_from_elsewhere(self.server.credential())

    @stored_only
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

    @stored_only
    @rule()
    def the_login_is_revoked(self) -> None:
        self.server.revoked = True

    @precondition(lambda self: self.stored is not None and not self.server.revoked and self.server.valid is not None)
    @rule()
    def another_program_rotates(self) -> None:
        self.store_from_elsewhere(self.server.rotate())

    @rule(who=programs)
    def a_program_is_started_anew(self, who: int) -> None:
        self.ours[who] = source(self.server, self.store, self.now)

    # Our programs --------------------------------------------------------------------------------------------------

    @rule(who=programs, askers=st.integers(1, 5), invalidated=st.booleans())
    def a_request(self, who: int, askers: int, invalidated: bool) -> None:
        """Take the current credential, and after a 401 a new one, as a stream does."""
        if invalidated:
            self.the_access_token_is_invalidated()
        given = self.ask(self.ours[who].current())
        valid = self.server.valid
        if given is not None:
            self.past.append(given)
            if valid is None or given.access_token != valid.access_token or given.access_token in self.invalid:
                self.ask(*(self.ours[who].refresh(rejected(given)) for _ in range(askers)), old=given)

    @precondition(lambda self: self.past)
    @rule(who=programs, data=st.data())
    def a_late_failure(self, who: int, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.past))
        requests, before = len(self.server.requests), self.stored
        new = self.ask(self.ours[who].refresh(rejected(old)), old=old)
        if new and before and before != old and not before.expired(self.now.wall) and not self.jumped:
            assert len(self.server.requests) == requests

    def ask(self, *work: Any, old: Credential | None = None) -> Credential | None:
        """Await what several callers ask for; return the credential that all of them get."""
        busy, requests, before = len(self.server.answers), len(self.server.requests), self.stored

        async def gathered() -> list[Any]:
            return await asyncio.gather(*work, return_exceptions=True)

        outcomes = self.loop.run(gathered())
        background()  # a refresh in the background, if there is one
        outcome = outcomes[0]
        assert len({repr(each) for each in outcomes}) == 1
        assert len(self.server.requests) - requests <= 3
        if isinstance(outcome, CredentialError):
            if isinstance(outcome, LoginRequired):
                assert before is None or self.server.revoked
            else:
                assert isinstance(outcome, RefreshFailed)
                assert busy >= 3 or self.refused
            return None
        assert isinstance(outcome, Credential)
        assert before is not None, "after a logout nothing is given out"
        if old is not None:
            assert outcome.access_token != old.access_token
            assert self.stored is not None
            assert self.stored.access_token == outcome.access_token
            self.past.append(outcome)
        return outcome

    # Invariants ----------------------------------------------------------------------------------------------------

    @invariant()
    def no_refresh_token_is_spent_twice(self) -> None:
        assert self.server.reused == []

    @invariant()
    def what_is_stored_is_the_newest(self) -> None:
        stored, valid = self.stored, self.server.valid
        assert stored is None or (valid is not None and stored.refresh_token == valid.refresh_token)


TestLogins = Logins.TestCase
TestLogins.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
