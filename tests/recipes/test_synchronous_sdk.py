"""A synchronous SDK blocks its thread: a pool for it, and plain functions for the credentials."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from anthropic import Anthropic
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.scheduler import ThreadPoolScheduler

from rxauth import recover_auth
from rxauth.testing import FakeProvider

from .dead_token import ANSWER, REQUEST
from .test_threads import Seen, dead

pytestmark = pytest.mark.peer


def test_a_pool_of_threads_makes_one_token_request() -> None:
    streams = 4
    with (
        FakeProvider(answer=ANSWER) as fake,
        Anthropic(auth_token="replaced", base_url=fake.url, max_retries=0) as client,
    ):
        credentials = dead(fake)
        question: Any = REQUEST["messages"]

        def ask(_: abc.SchedulerBase) -> Observable[Any]:
            token = {"Authorization": f"Bearer {asyncio.run(credentials.current()).access_token}"}
            return rx.from_iterable(
                client.messages.create(model="m", max_tokens=9, messages=question, stream=True, extra_headers=token)
            )

        def refresh(failure: Any) -> Any:
            return asyncio.run(credentials.refresh(failure))

        recovered = rx.defer(ask).pipe(
            recover_auth(refresh, is_prelude=lambda event: event.type == "message_start"),
            ops.subscribe_on(ThreadPoolScheduler(streams)),
        )
        for seen in [Seen().of(recovered) for _ in range(streams)]:
            types = seen.to_the_end().types
            assert seen.error is None
            assert (types[0], types[-1], types.count("message_start")) == ("message_start", "message_stop", 1)
        assert len(fake.token_requests) == 1
