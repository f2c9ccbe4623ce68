"""Show the problem and its solution for real: one question, asked in three ways with a token that was invalidated."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from argparse import Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from rxauth.cli import screen
from rxauth.cli.running import DONE, FAILED, run
from rxauth.credentials import MemoryStore, OAuthCredentials
from rxauth.events import AssistantEvent, Done, Start, to_json
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


def demo(args: Namespace) -> int:
    """Ask one question in three ways, with a token that the embedded provider has invalidated."""
    scenes = run(run_demo())
    if args.json:
        screen.write(json.dumps({"scenes": [scene.as_json() for scene in scenes], "ok": scenes[-1].whole}))
    else:
        color = args.color == "always" or (args.color == "auto" and screen.has_color(sys.stdout))
        problem = "The token has not expired on this machine, but the server no longer accepts it."
        screen.write(f"{textwrap.fill(problem, screen.width(sys.stdout))}\nThe same question is asked in three ways.\n")
        for scene in scenes:
            scene.show(color)
        screen.write("Your own streams:\n  stream.pipe(recover_auth(credentials.refresh))")
    return DONE if scenes[-1].whole else FAILED


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

    def as_json(self) -> dict[str, Any]:
        """Return its events, transcript and requests."""
        entries = [{"open": entry.open, "message": json.loads(to_json(entry.message))} for entry in self.transcript]
        return {
            "name": self.name,
            "events": [json.loads(to_json(event)) for event in self.events],
            "transcript": entries,
            "requests": [{"request": request, "status": status} for request, status in self.requests],
        }

    def show(self, color: bool) -> None:
        """Write its timelines and its transcript."""
        bold, dim, plain = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if color else ("", "", "")
        width = screen.width(sys.stdout)
        screen.write(f"{bold}{self.name}{plain}\n{textwrap.fill(self.remark, width)}\n")
        screen.write(self.diagram.text(width, color=color, ascii_only=not screen.can_draw(sys.stdout)))
        screen.write(f"\n{dim}saved in the transcript:{plain}")
        for number, entry in enumerate(self.transcript, start=1):
            text = json.dumps(entry.message.text, ensure_ascii=False) if entry.message.text else "(empty)"
            end = "never ended: a phantom" if entry.open else entry.message.error_message or "complete"
            line = f"{number}. {text}  {end}"
            screen.write(textwrap.fill(line, width - 1, initial_indent="  ", subsequent_indent="     "))
        screen.write("\n")


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
