from __future__ import annotations

import threading
from typing import Any

import aiohttp
import pytest
import tenacity
from reactivex.scheduler import NewThreadScheduler
from reactivex.testing import TestScheduler

from rxauth import backoff
from rxauth.errors import AccountChanged, LoginRequired, ProviderUnavailable, RefreshFailed, TransientError


def with_status(status: Any) -> Exception:
    error = Exception("failed")
    vars(error)["status"] = status
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(),
        TimeoutError(),
        ConnectionResetError(),
        TransientError("busy"),
        ProviderUnavailable("busy"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(),
        *map(with_status, (408, 425, 429, 500, 503, 529, 599)),
    ],
    ids=repr,
)
def test_the_same_call_may_succeed_later(error: Exception) -> None:
    assert backoff.is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        LoginRequired("log in"),
        AccountChanged("another"),
        RefreshFailed("it has tried again itself", type="server_error", status=503),
        *map(with_status, (400, 401, 403, 404, 200, True, "503 busy", None)),
    ],
    ids=repr,
)
def test_it_will_not(error: Exception) -> None:
    assert not backoff.is_transient(error)


@pytest.mark.parametrize(
    ("told", "expected"), [(7, 7.0), (0, 0.0), (2.5, 2.5), (-1, None), ("7", None), (True, None), (float("inf"), None)]
)
def test_the_server_says_how_long_to_wait_if_it_says_a_number(told: Any, expected: float | None) -> None:
    state = tenacity.RetryCallState(backoff.default_retrying(), None, (), {})
    error = TransientError("busy", retry_after=told)
    state.set_exception((type(error), error, None))
    wait = backoff.wait_as_told_or_random(state)
    assert wait == expected if expected is not None else 0 <= wait <= 0.5


def test_tries_may_move_from_thread_to_thread() -> None:
    """tenacity keeps its counts per thread."""
    threads: list[str] = []
    ended = threading.Event()
    results: list[Any] = []

    def attempt(on_result: Any, on_failed: Any) -> None:
        threads.append(threading.current_thread().name)
        if len(threads) < 4:
            on_failed(OSError())
        else:
            on_result("done")

    def succeed(result: Any) -> None:
        results.append(result)
        ended.set()

    counted: list[float] = []
    policy = tenacity.Retrying(
        wait=tenacity.wait_fixed(0.001), before_sleep=lambda state: counted.append(state.idle_for)
    )
    backoff.drive(
        policy,
        attempt,
        scheduler=NewThreadScheduler(),
        on_retry=lambda *_: None,
        on_result=succeed,
        on_failed=lambda error: ended.set(),
    )
    assert ended.wait(10)
    assert results == ["done"]
    assert len(set(threads)) > 1
    assert counted == pytest.approx([0.001, 0.002, 0.003])


def test_a_policy_that_is_switched_off_tries_once() -> None:
    failed: list[Exception] = []
    tries: list[int] = []

    def attempt(on_result: Any, on_failed: Any) -> None:
        tries.append(1)
        on_failed(OSError())

    backoff.drive(
        tenacity.Retrying(enabled=False),
        attempt,
        scheduler=TestScheduler(),
        on_retry=lambda *_: None,
        on_result=lambda _: None,
        on_failed=failed.append,
    )
    assert (len(tries), len(failed)) == (1, 1)
