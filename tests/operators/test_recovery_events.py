"""`on_recovery` and the log receive names that come from code, and never a text or a token."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import tenacity
from reactivex import operators as ops
from reactivex.disposable import SerialDisposable
from reactivex.subject import Subject

from rxauth import (
    AuthRejected,
    Credential,
    NeverLiveError,
    Refreshed,
    RefreshFailed,
    RefreshUnchanged,
    Resubscribed,
    TransientError,
    buffer_until_live,
    flush_on_complete_or_error,
    recover_auth,
    retry_on_first_auth_error,
)
from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Error
from rxauth.recovery import AuthFailedAfterLive
from rxauth.testing import marbles

from .marble_table import Row

REJECTED = AuthRejected("CredentialRejected", 401)
EXCEPTION = "__cause__", "__context__", "__traceback__", "args"
RECOVERED = [REJECTED, Refreshed(), Resubscribed()]


def late(live_type: str) -> AuthFailedAfterLive:
    return AuthFailedAfterLive("CredentialRejected", 401, live_type)


def events_of(first: str, refresh: str = "r", second: str = "s-a|", **options: Any) -> list[Any]:
    row, events = Row(first, second), list[Any]()
    row.run(recover_auth(row.refresh(refresh), on_recovery=events.append, **options))
    return events


@pytest.mark.parametrize(
    ("first", "refresh", "events"),
    [
        pytest.param("s-e", "r", RECOVERED, id="a new credential"),
        pytest.param("s-#", "n", [REJECTED, RefreshUnchanged()], id="no new credential"),
        pytest.param("s-#", "#", [REJECTED, RefreshFailed(type="ValueError")], id="a refresh that fails"),
        pytest.param("s-a|", "r", [], id="a stream that lives"),
        pytest.param("s-x", "r", [], id="another failure"),
        pytest.param("s-a-x|", "r", [], id="another failure after live"),
        pytest.param("s-a-#", "r", [late("text_delta")], id="a 401 after live"),
        pytest.param("s-a-e|", "r", [late("text_delta")], id="a 401 after live, in-band"),
    ],
)
def test_a_listener_receives_each_step(first: str, refresh: str, events: list[Any]) -> None:
    assert events_of(first, refresh) == events


@pytest.mark.parametrize("failure", ["#", "e|"], ids=["an exception", "an error event"])
class TestAnAuthFailureAfterLive:
    """The first trap of a newcomer: an event that proves nothing is missing in `is_prelude`."""

    @pytest.mark.parametrize(
        ("source", "is_prelude", "live_type"),
        [
            pytest.param("sa-", lambda event: event.type == "start", "text_delta", id="behind a prelude"),
            pytest.param("s-", lambda event: False, "start", id="a prelude that is_prelude forgets"),
            pytest.param("asb-", lambda event: event.type != "start", "start", id="the first of several"),
        ],
    )
    def test_names_the_event_taken_for_life(self, source: str, is_prelude: Any, live_type: str, failure: str) -> None:
        assert events_of(source + failure, is_prelude=is_prelude) == [late(live_type)]

    @pytest.mark.parametrize(
        ("source", "buffered", "live_type"),
        [("sa-", True, "text_delta"), ("sa-", False, "text_delta"), ("s-", False, "start")],
        ids=["buffered", "without a buffer", "without a buffer, behind a start"],
    )
    def test_is_reported_by_retry_alone_too(self, source: str, buffered: bool, live_type: str, failure: str) -> None:
        row, events = Row(source + failure), list[Any]()
        retry: Any = retry_on_first_auth_error(row.refresh("r"), on_recovery=events.append)
        row.run(*([buffer_until_live(), retry, flush_on_complete_or_error()] if buffered else [retry]))
        assert events == [late(live_type)]

    def test_leaves_a_line_that_points_to_is_prelude(self, failure: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "rxauth")
        events_of("s-a-" + failure)
        (record,) = caplog.records
        assert record.levelno == logging.DEBUG
        assert "'text_delta' counted as live" in record.getMessage()
        assert "is_prelude" in record.getMessage()

    def test_of_attempt_2_is_not_reported(self, failure: str) -> None:
        assert events_of("s-e", "r", "  s-a-" + failure) == RECOVERED

    def test_that_cannot_be_judged_changes_nothing(self, failure: str) -> None:
        def raises(_: Any) -> bool:
            raise LookupError("cannot say")

        row, events = Row("s-a---" + failure), list[Any]()
        operator: Any = recover_auth(row.refresh("r"), is_auth_error=raises, on_recovery=events.append)
        assert row.run(operator) == "--(sa)" + failure
        assert events == []


@pytest.mark.parametrize(("count", "reported"), [(9, [late("text_delta")]), (99, [])])
def test_an_error_event_is_remembered_for_64_events(count: int, reported: list[Any]) -> None:
    """Remembering it for longer would slow every event."""
    assert events_of("s" + "a" * count + "e|") == reported


@pytest.mark.parametrize("failure", ["#", "e|"], ids=["an exception", "an error event"])
def test_a_late_failure_after_a_dispose_is_not_reported(failure: str) -> None:
    source: Subject[Any] = Subject()
    events: list[Any] = []

    def consumer(event: Any) -> None:
        if event == marbles.event("s"):
            notifications: list[Any] = [each.value for each in marbles.messages(failure)]
            for each in notifications:
                each.accept(source)  # it waits for the end of the flush
            subscription.dispose()

    operator: Any = recover_auth(lambda _: True, on_recovery=events.append)
    subscription = source.pipe(operator).subscribe(consumer)
    source.on_next(marbles.event("s"))
    source.on_next(marbles.event("a"))
    assert events == []


def test_an_observer_receives_on_next_alone() -> None:
    subject: Subject[Any] = Subject()
    seen: list[Any] = []
    subject.subscribe(seen.append, seen.append, lambda: seen.append("|"))
    row = Row("s-e", "s-a|")
    row.run(recover_auth(row.refresh("r"), on_recovery=subject))
    assert seen == RECOVERED


@pytest.mark.parametrize(
    ("refresh", "line"),
    [
        ("r", "The credential was refreshed; subscribing once more"),
        ("n", "refresh gave no new credential; not retried"),
        ("#", "The refresh failed (ValueError); the stream's own failure goes on"),
    ],
)
def test_the_log_has_the_same(refresh: str, line: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rxauth")
    events_of("s-e", refresh)
    first = "The stream was refused before it was live (CredentialRejected); refreshing the credential"
    assert [record.getMessage() for record in caplog.records] == [first, line]


@pytest.mark.parametrize("refresh", ["r", "n", "#"], ids=["new", "none", "one that raises"])
@pytest.mark.parametrize("source", ["s-#", "s-e", "s-a-#"], ids=["an exception", "an error event", "after live"])
def test_no_secret_of_a_failure_is_shown(source: str, refresh: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), reraise=True)
    error = CredentialRejected(
        "canary", status=401, code="canary", type="canary", request_id="canary", credential=Credential("canary")
    )
    event = Error("error", AssistantMessage(error_message="canary"), error)
    row, events, never_live = Row(source, error=error, events={"e": event}), list[Any](), list[Any]()
    retry: Any = retry_on_first_auth_error(
        row.refresh(refresh, TransientError("canary")), on_recovery=events.append, retrying=policy
    )
    row.run(buffer_until_live(), ops.do_action(on_error=never_live.append), retry, flush_on_complete_or_error())
    assert events
    never_live = [each for each in never_live if isinstance(each, NeverLiveError)]
    shown = [caplog.text, *map(str, events + never_live), *getattr(error, "__notes__", ())]
    for each in events:
        names = [*(getattr(each, "__slots__", ()) or getattr(each, "__dict__", ())), *EXCEPTION]
        shown += [repr(each), *(repr(getattr(each, name, None)) for name in names)]
    assert "canary" not in "".join(shown)


def test_nothing_is_reported_after_a_dispose_by_the_policy() -> None:
    events: list[Any] = []
    policy = tenacity.Retrying(wait=tenacity.wait_fixed(1), before_sleep=lambda _: disposable.dispose())
    disposable = SerialDisposable()
    row = Row("s-#")
    recovered = row.source.pipe(recover_auth(row.refresh("#"), retrying=policy, on_recovery=events.append))
    disposable.disposable = recovered.subscribe(scheduler=row.scheduler)
    row.scheduler.start()
    assert events == [REJECTED]
