"""One recovery: the refresh, where it runs, and its exception. Both operators use this code."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import reactivex as rx
import tenacity
from reactivex import operators as ops
from reactivex.scheduler import CurrentThreadScheduler, ImmediateScheduler, NewThreadScheduler
from reactivex.subject import ReplaySubject

from rxauth import from_async_iterable, recover_auth
from rxauth.errors import CredentialRejected
from rxauth.events import AssistantMessage, Error
from rxauth.testing import marbles

from .marble_table import RECOVERED, Row, one_after_the_other, sync_source, types


def ends(refresh: Any, error: Exception | None = None, **options: Any) -> Exception:
    """Return the exception that goes on where the refresh failed."""
    errors: list[Exception] = []
    source = rx.throw(error or CredentialRejected("no", status=401))
    source.pipe(recover_auth(refresh, **options)).subscribe(on_error=errors.append)
    gc.collect()
    return errors[0]


class TestTheCause:
    """The refresh's exception is kept with the failure that goes on."""

    @pytest.mark.parametrize("source", ["s-#", "s-e"], ids=["of the exception", "of the event's cause"])
    def test_is_the_refreshs_exception(self, source: str) -> None:
        error, why = CredentialRejected("no", status=401), ValueError("no refresh")
        row = Row(source, error=error, events={"e": Error("error", AssistantMessage(), error)})
        row.run(recover_auth(row.refresh("#", why)))
        assert error.__cause__ is why

    def test_that_exists_stays_and_a_note_is_added_once(self) -> None:
        error, before = CredentialRejected("no", status=401), KeyError("before")
        error.__cause__ = before
        for _ in range(2):
            ends(one_after_the_other(ValueError("secret")), error)
        assert (error.__cause__, error.__notes__) == (before, ["The refresh failed too: ValueError"])

    @pytest.mark.parametrize(
        ("refused", "notes"),
        [({"__cause__"}, ["The refresh failed too: ValueError"]), ({"__cause__", "__notes__"}, [])],
        ids=["becomes a note", "is left out"],
    )
    def test_that_cannot_be_set(self, refused: set[str], notes: list[str]) -> None:
        class Frozen(CredentialRejected):
            def __setattr__(self, name: str, value: object) -> None:
                if name in refused:
                    raise AttributeError("frozen")
                super().__setattr__(name, value)

            def add_note(self, note: str) -> None:
                self.__notes__ = [note]

        error = Frozen("no", status=401)
        assert ends(one_after_the_other(ValueError("secret")), error) is error
        assert (error.__cause__, getattr(error, "__notes__", [])) == (None, notes)

    def test_makes_no_cycle(self) -> None:
        error, why = CredentialRejected("no", status=401), ValueError("no refresh")
        why.__cause__ = error
        ends(one_after_the_other(why), error)
        assert (error.__cause__, error.__notes__) == (None, ["The refresh failed too: ValueError, status 401"])

    def test_makes_no_cycle_where_the_failure_is_handled(self) -> None:
        error, why = CredentialRejected("no", status=401), ValueError("no refresh")

        def emit(observer: Any, _: Any) -> Any:
            try:
                raise error
            except CredentialRejected as caught:
                observer.on_error(caught)

        rx.create(emit).pipe(recover_auth(one_after_the_other(why))).subscribe(on_error=lambda _: None)
        assert (error.__cause__, why.__context__) == (why, None)


class TestTheRefresh:
    def test_must_be_a_function(self) -> None:
        with pytest.raises(TypeError, match="refresh is a str"):
            recover_auth("token")  # type: ignore[arg-type]

    @pytest.mark.parametrize("kind", [CurrentThreadScheduler, ImmediateScheduler])
    def test_that_is_an_observable_never_waits_on(self, kind: Any) -> None:
        given: list[Any] = []

        def emit(observer: Any, scheduler: Any) -> Any:
            given.append(scheduler)
            observer.on_next(True)

        sync_source("se", "sa").pipe(recover_auth(lambda _: rx.create(emit))).subscribe(scheduler=kind.singleton())
        assert given == [None]

    async def test_of_a_failure_on_a_thread_resumes_on_the_loop(self) -> None:
        threads: list[int] = []
        done = asyncio.Event()

        def emit(observer: Any, _: Any) -> Any:
            threads.append(threading.get_ident())
            if len(threads) == 1:
                threading.Thread(target=observer.on_error, args=(marbles.failure,)).start()
            else:
                observer.on_next(marbles.event("a"))

        rx.create(emit).pipe(recover_auth(lambda _: True)).subscribe(lambda _: done.set())
        await done.wait()
        assert threads == [threading.get_ident()] * 2

    def test_that_is_a_coroutine_needs_a_loop(self) -> None:
        async def refresh(_: Any) -> bool:
            return True

        assert "event loop" in str(ends(refresh).__cause__)

    def test_whose_result_has_no_truth_has_failed(self) -> None:
        class Undecided:
            def __bool__(self) -> bool:
                raise LookupError("neither")

        assert isinstance(ends(lambda _: Undecided()).__cause__, LookupError)


class TestContextVariables:
    """Those of the subscriber hold, also when a failure or the end of the refresh comes from another thread."""

    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="lost")

    @pytest.mark.parametrize("thread", [False, True], ids=["", "the failure on a thread"])
    @pytest.mark.parametrize("kind", ["plain", "a coroutine", "a second try", "ends on a thread"])
    async def test_hold_in_the_refresh_and_in_attempt_2(self, kind: str, thread: bool) -> None:
        self.request.set("request 1")
        seen: list[str] = []

        async def attempt() -> AsyncIterator[Any]:
            seen.append(self.request.get())
            yield marbles.event("s")
            yield marbles.event("e" if len(seen) == 1 else "a")

        async def coroutine(_: Any) -> bool:
            seen.append(self.request.get())
            await asyncio.sleep(0)
            return True

        def plain(_: Any) -> Any:
            seen.append(self.request.get())
            if kind == "a second try" and len(seen) == 2:
                raise OSError
            if kind != "ends on a thread":
                return True
            result = ReplaySubject[bool]()
            threading.Thread(target=result.on_next, args=(True,)).start()
            return result

        stream: rx.Observable[Any] = from_async_iterable(attempt)
        if thread:
            stream = stream.pipe(ops.observe_on(NewThreadScheduler()))
        recovered = stream.pipe(
            recover_auth(
                coroutine if kind == "a coroutine" else plain,
                retrying=tenacity.Retrying(wait=tenacity.wait_none()),
                on_recovery=lambda _: seen.append(self.request.get()),
            )
        )
        assert await types(recovered) == RECOVERED
        assert set(seen) == {"request 1"}

    def test_set_by_the_refresh_hold_in_attempt_2(self) -> None:
        def attempt(_: Any) -> rx.Observable[Any]:
            return sync_source("sa" if self.request.get() == "fresh" else "se")

        seen: list[str] = []
        recovered = rx.defer(attempt).pipe(recover_auth(lambda _: self.request.set("fresh")))
        recovered.subscribe(lambda event: seen.append(event.type))
        assert (seen, self.request.get()) == (RECOVERED, "lost")
