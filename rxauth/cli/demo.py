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

from rxauth.cli import DONE, FAILED, run, screen
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
    scenes = run(run_demo(args.pace))
    recovered = scenes[-1].is_whole()
    if args.json:
        screen.write(json.dumps({"scenes": [scene.as_json() for scene in scenes], "ok": recovered}))
    else:
        color = args.color == "always" or (args.color == "auto" and screen.has_color(sys.stdout))
        problem = "The token has not expired on this machine, but the server no longer accepts it."
        screen.write(f"{textwrap.fill(problem, screen.width(sys.stdout))}\nThe same question is asked in three ways.\n")
        for scene in scenes:
            scene.show(color)
        screen.write("Your own streams:\n  stream.pipe(recover_auth(credentials.refresh))")
    return DONE if recovered else FAILED


@dataclass(frozen=True)
class Scene:
    """One way to ask, and its outcome; a request is one to the server, with its status."""

    name: str
    remark: str
    diagram: Diagram
    events: list[AssistantEvent]
    transcript: tuple[TranscriptEntry, ...]
    requests: list[dict[str, Any]]

    def is_whole(self) -> bool:
        """Return whether there is exactly one message, complete, after exactly one refresh."""
        requests = ["POST /v1/messages", "POST /oauth/token", "POST /v1/messages"]
        return (
            [(entry.open, entry.message.text) for entry in self.transcript] == [(False, ANSWER)]
            and [type(event) for event in self.events if isinstance(event, Start | Done)] == [Start, Done]
            and [each["request"] for each in self.requests] == requests
        )

    def as_json(self) -> dict[str, Any]:
        """Return its events, transcript and requests."""
        entries = [{"open": entry.open, "message": json.loads(to_json(entry.message))} for entry in self.transcript]
        events = [json.loads(to_json(event)) for event in self.events]
        return {"name": self.name, "events": events, "transcript": entries, "requests": self.requests}

    def show(self, color: bool) -> None:
        """Write its timelines and its transcript."""
        bold, dim, plain = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if color else ("", "", "")
        width = screen.width(sys.stdout)
        screen.write(f"{bold}{self.name}{plain}\n{textwrap.fill(self.remark, width)}\n")
        screen.write(self.diagram.text(width, color=color, ascii_only=not _can_draw()))
        screen.write(f"\n{dim}saved in the transcript:{plain}")
        for number, entry in enumerate(self.transcript, start=1):
            text = json.dumps(entry.message.text, ensure_ascii=False) if entry.message.text else "(empty)"
            end = "never ended: a phantom" if entry.open else entry.message.error_message or "complete"
            line = f"{number}. {text}  {end}"
            screen.write(textwrap.fill(line, width - 1, initial_indent="  ", subsequent_indent="     "))
        screen.write("\n")


def _can_draw() -> bool:
    """Return whether the output's encoding has the characters of a diagram."""
    try:
        "─│╰╯●‹›×…".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


async def run_demo(pace: float = 1.0) -> list[Scene]:
    """Run the three scenes; the last one is rxauth's."""
    unfiltered = "The stream emits start before the server has answered; the 401 reaches the user."
    phantom = "The first start is already on the screen: an empty message stays for ever."
    whole = "start is held until the stream is live: one message, as if nothing had happened."
    return [
        await _scene("1. no filter", unfiltered, lambda stream, _: stream, pace),
        await _scene("2. a retry, but no buffer", phantom, _retry_without_buffer, pace),
        await _scene("3. rxauth", whole, lambda stream, refresh: stream.pipe(recover_auth(refresh)), pace),
    ]


def _retry_without_buffer(stream: Stream, refresh: Refresh) -> Stream:
    """Retry as a first version does: raise an error event, refresh on an exception, subscribe again."""

    def thrown(event: Any) -> Stream:
        return rx.throw(event.cause) if event.type == "error" else rx.of(event)

    def again(error: Exception, _: Stream) -> Stream:
        refreshed = rx.from_future(asyncio.ensure_future(refresh(error)))
        return refreshed.pipe(ops.flat_map(lambda _: stream))

    return stream.pipe(ops.flat_map(thrown), ops.catch(again))


async def _scene(name: str, remark: str, recover: Callable[[Stream, Refresh], Stream], pace: float) -> Scene:
    async with FakeProvider(answer=ANSWER, replies=[Reply(pause=0.02 * pace)], latency=0.04 * pace) as fake:
        store = MemoryStore(fake.credential())
        credentials = OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id)
        fake.invalidate()
        stream = anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials)
        recorder, transcript = Recorder("screen"), Transcript()
        shown = recover(stream, credentials.refresh).pipe(recorder, ops.do(transcript))
        # Not an async for: after a Ctrl-C the garbage collector would close its iterator when the loop is gone.
        events = await shown.pipe(ops.to_list())
        seen = [(each.at, f"{each.method} {each.path}", each.status) for each in fake.requests]
    (user,) = recorder.timelines
    starts = [mark.time for mark in user.marks if isinstance(mark.value, Start)]
    if len(starts) > 1:
        user = user.with_note(PHANTOM, at=starts[0])
    server = Timeline.of_marks("server", [(at, f"{request} {status}") for at, request, status in seen])
    requests = [{"request": request, "status": status} for _, request, status in seen]
    return Scene(name, remark, Diagram(user, server), events, transcript.entries, requests)
