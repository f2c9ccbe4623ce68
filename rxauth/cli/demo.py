"""Show the problem and its solution for real: one question, asked in three ways with a token that was invalidated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from rxauth.credentials import MemoryStore, OAuthCredentials
from rxauth.events import AssistantEvent, Done, Start
from rxauth.marbles import Diagram, Recorder, Timeline
from rxauth.operators import recover_auth
from rxauth.sources import anthropic_messages
from rxauth.testing import FakeProvider, Reply
from rxauth.transcript import Transcript, TranscriptEntry

PHANTOM = "the phantom: nothing follows it"  # short enough to stand beside the answer, at any column
ANSWER = "The token had died, and you did not notice."
REQUEST = {"model": "fake-model", "max_tokens": 256, "messages": [{"role": "user", "content": "What happened?"}]}

Stream: TypeAlias = Observable[AssistantEvent]
Refresh: TypeAlias = Callable[[object], Awaitable[object]]


@dataclass(frozen=True)
class Scene:
    """One way to ask, and its outcome."""

    name: str
    remark: str
    diagram: Diagram
    events: tuple[AssistantEvent, ...]
    transcript: tuple[TranscriptEntry, ...]
    requests: tuple[tuple[str, int | None], ...]

    @property
    def whole(self) -> bool:
        """Whether there is exactly one message, complete, after exactly one refresh."""
        requests = [request for request, _ in self.requests]
        return (
            [(entry.open, entry.message.text) for entry in self.transcript] == [(False, ANSWER)]
            and [type(event) for event in self.events if isinstance(event, Start | Done)] == [Start, Done]
            and requests.count("POST /oauth/token") == 1
            and requests.count("POST /v1/messages") == 2
        )


async def run_demo() -> tuple[Scene, ...]:
    """Run the three scenes; the last one is rxauth's."""
    return (
        await _scene(
            "1. no filter",
            "The stream emits start before the server has answered; the 401 reaches the user.",
            lambda stream, refresh: stream,
        ),
        await _scene(
            "2. a retry, but no buffer",
            "The first start is already on the screen: an empty message stays for ever.",
            _retry_without_buffer,
        ),
        await _scene(
            "3. rxauth",
            "start is held until the stream is live: one message, as if nothing had happened.",
            lambda stream, refresh: stream.pipe(recover_auth(refresh)),
        ),
    )


def _retry_without_buffer(stream: Stream, refresh: Refresh) -> Stream:
    """Retry as a first version does: raise an error event, refresh on an exception, subscribe again."""

    def thrown(event: Any) -> Stream:
        return rx.throw(event.cause) if event.type == "error" else rx.of(event)

    def again(error: Exception, _: Stream) -> Stream:
        refreshed = rx.from_future(asyncio.ensure_future(refresh(error)))
        return refreshed.pipe(ops.flat_map(lambda _: stream))

    return stream.pipe(ops.flat_map(thrown), ops.catch(again))


async def _scene(name: str, remark: str, recover: Callable[[Stream, Refresh], Stream]) -> Scene:
    async with FakeProvider(answer=ANSWER, replies=[Reply(pause=0.02)], latency=0.04) as fake:
        credentials = OAuthCredentials(
            MemoryStore(fake.credential()), token_url=fake.token_url, client_id=fake.client_id
        )
        fake.invalidate()
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
        screen, transcript = Recorder("screen"), Transcript()
        shown = recover(stream, credentials.refresh).pipe(screen, ops.do(transcript))
        # Not an async for: after a Ctrl-C the garbage collector would close its iterator when the loop is gone.
        events = await shown.pipe(ops.to_list())
        seen = [(f"{each.method} {each.path}", each.status, each.at) for each in fake.requests]
    (shown_to_user,) = screen.timelines
    starts = [mark.time for mark in shown_to_user.marks if isinstance(mark.value, Start)]
    if len(starts) > 1:
        shown_to_user = shown_to_user.with_note(PHANTOM, at=starts[0])
    server = Timeline.of_marks("server", [(at, f"{request} {status}") for request, status, at in seen])
    return Scene(
        name=name,
        remark=remark,
        diagram=Diagram(shown_to_user, server),
        events=tuple(events),
        transcript=transcript.entries,
        requests=tuple((request, status) for request, status, _ in seen),
    )
