"""Keep the messages of assistant streams, as a chat program does."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
from reactivex import Observable, abc

from rxauth.errors import TranscriptNotSaved, field
from rxauth.events import (
    AssistantMessage,
    Block,
    DoneReason,
    ErrorReason,
    Text,
    Thinking,
    ToolCall,
    arguments_text,
    message_from_json,
    to_json,
)

__all__ = ["Transcript", "TranscriptEntry", "collect_message"]

E = TypeVar("E")

# For each kind of block: an empty one, and the field that its deltas add to.
_KINDS: dict[str, tuple[Block, str]] = {
    "text": (Text(""), "text"),
    "thinking": (Thinking(""), "thinking"),
    "toolcall": (ToolCall("", ""), "arguments_json"),
}


class TranscriptEntry(msgspec.Struct, frozen=True):
    """Hold a message of a transcript; `open` until it ends."""

    message: AssistantMessage
    open: bool


class Transcript(abc.ObserverBase[Any]):
    """Keep the messages of assistant streams, the phantoms too. An Rx observer: `events.subscribe(transcript)`.

        events       s--a--b--D|              D: done
        messages     [""] ["a"] ["ab"]        one, complete

        events       s--s--a--D|              a retry without a buffer
        messages     [""], ["a"]              two, and the first stays open: the phantom

    `start` appends a message, which grows with every delta; `done` and `error` close it with the message they carry. On
    Rx's own channels, `on_error` closes an open message as `error` and `on_completed` as `aborted`. A message that is
    still open when the next one starts stays open, since its stream is gone. An event that belongs to no message opens
    one, so that no text is lost.

    Events are distinguished by `type`, an attribute or a key of a mapping; others than rxauth's are ignored. One
    transcript can take one stream after another, not two at once. It belongs to one thread at a time.

    Args:
        path: where to append the messages of a stream when it ends on Rx's channels, as JSON lines, those left open
            included (their `stop_reason` is null). Made if missing, readable by its owner alone. `None`: nowhere.

    >>> from rxauth.events import Done, Start, TextDelta
    >>> transcript = Transcript()
    >>> for event in (Start(AssistantMessage()), Start(AssistantMessage()), TextDelta(0, "Hel"), TextDelta(0, "lo")):
    ...     transcript.on_next(event)
    >>> transcript.on_next(Done("stop", AssistantMessage(content=(Text("Hello"),), stop_reason="stop")))
    >>> [(entry.message.text, "open" if entry.open else "closed") for entry in transcript.entries]
    [('', 'open'), ('Hello', 'closed')]
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._drafts: list[_Draft] = []
        self._saved = 0

    @property
    def messages(self) -> tuple[AssistantMessage, ...]:
        """Every message so far, in the order of their starts."""
        return tuple(draft.message() for draft in self._drafts)

    @property
    def entries(self) -> tuple[TranscriptEntry, ...]:
        """Every message so far, each with whether it is open."""
        return tuple(TranscriptEntry(draft.message(), draft.open) for draft in self._drafts)

    def on_next(self, value: Any) -> None:
        """Add an event to its message."""
        last = self._drafts[-1] if self._drafts else None
        draft = _draft_of(value, last)
        if draft is not None and draft is not last:
            self._drafts.append(draft)

    def on_error(self, error: Exception) -> None:
        """Close an open message as `error`, and save.

        Raises:
            TranscriptNotSaved: see `save`.
        """
        self._end("error", str(error) or type(error).__name__)

    def on_completed(self) -> None:
        """Close an open message as `aborted`, and save.

        Raises:
            TranscriptNotSaved: see `save`.
        """
        self._end("aborted")

    def close(self) -> None:
        """Close an open message as `aborted`, and save: for a disposed stream, which no longer calls its observer.

        Raises:
            TranscriptNotSaved: see `save`.
        """
        self._end("aborted")

    def _end(self, reason: ErrorReason, text: str | None = None) -> None:
        if self._drafts and self._drafts[-1].open:
            self._drafts[-1].end(reason, text)
        self.save()

    def save(self) -> None:
        """Append to the file what is not in it yet: every message up to the last one that is closed.

        All of it or nothing: after a failure the file is as it was, and a later `save` tries again.

        Raises:
            TranscriptNotSaved: the file cannot be written; its `__cause__` says why.
        """
        ready = len(self._drafts)
        while ready > self._saved and self._drafts[ready - 1].open:
            ready -= 1
        if self._path is None or ready == self._saved:
            return
        try:
            lines = "".join(to_json(draft.message()) + "\n" for draft in self._drafts[self._saved : ready])
            _append(self._path, lines.encode())
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "a message is no valid Unicode"
            raise TranscriptNotSaved(
                f"The transcript {self._path} cannot be written ({reason}). Its messages are still in `messages`."
            ) from error
        self._saved = ready

    def __repr__(self) -> str:
        still = sum(draft.open for draft in self._drafts)
        return f"Transcript({len(self._drafts)} messages, {still} open)"


def collect_message() -> Callable[[Observable[E]], Observable[AssistantMessage]]:
    """Fold assistant events into one message, emitted when the answer ends.

        source   s--a--b--D--|      result   ----------(M|)     the message of done
        source   s--a--e|           result   -------(M|)        the message of the error event
        source   s--a--|            result   -------(M|)        the message so far, `stop_reason` "aborted"
        source   s--a--#            result   -------#

    There is exactly one message, or `on_error`. A second `start` begins anew.

    Returns:
        An operator from events (see `rxauth.events`) to one `AssistantMessage`.

    >>> import reactivex
    >>> from rxauth.events import TextDelta
    >>> reactivex.of(TextDelta(0, "Hel"), TextDelta(0, "lo")).pipe(collect_message()).run()
    AssistantMessage(content=(Text(text='Hello'),), ..., stop_reason='aborted', ...)
    """

    def operator(source: Observable[E]) -> Observable[AssistantMessage]:
        def subscribe(
            observer: abc.ObserverBase[AssistantMessage], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            draft = _Draft()

            def on_next(event: E) -> None:
                nonlocal draft
                draft = _draft_of(event, draft) or draft
                if not draft.open:
                    finish()

            def on_completed() -> None:
                if draft.open:
                    draft.end("aborted")
                    finish()

            def finish() -> None:
                observer.on_next(draft.message())
                observer.on_completed()

            return source.subscribe(on_next, observer.on_error, on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator


class _Draft:
    """Build a message. A delta costs the same however long the message is."""

    def __init__(self, start: Any = None) -> None:
        self._message = _message(field(start, "message")) or AssistantMessage()
        # By kind as well: events that number two blocks alike still lose nothing.
        self._blocks: dict[tuple[int, str], Block] = {}
        self._deltas: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
        self._is_current = True
        self.open = True

    def message(self) -> AssistantMessage:
        if not self._is_current:
            for place, deltas in self._deltas.items():
                block, name = self._blocks[place], _KINDS[place[1]][1]
                text = "".join([getattr(block, name), *deltas])
                self._blocks[place] = msgspec.structs.replace(block, **{name: text})
            self._deltas.clear()
            content = tuple(self._blocks[place] for place in sorted(self._blocks))
            self._message = msgspec.structs.replace(self._message, content=content)
            self._is_current = True
        return self._message

    def end(self, reason: DoneReason | ErrorReason, error_message: str | None = None) -> None:
        self._close(msgspec.structs.replace(self.message(), stop_reason=reason, error_message=error_message))

    def _close(self, message: AssistantMessage) -> None:
        self._message, self._is_current, self.open = message, True, False
        self._blocks.clear()
        self._deltas.clear()

    def add(self, type_: str, event: Any) -> None:
        if type_ in ("done", "error"):
            self._add_end(type_, event)
            return
        kind, _, action = type_.partition("_")
        index = field(event, "content_index")
        place = (index if isinstance(index, int) else 0, kind)
        block = self._blocks.setdefault(place, _KINDS[kind][0])
        self._is_current = False
        if action == "delta":
            self._deltas[place].append(_text(event, "delta"))
            return
        fields = _fields(kind, event)
        if _KINDS[kind][1] in fields:
            self._deltas.pop(place, None)
        self._blocks[place] = msgspec.structs.replace(block, **fields)

    def _add_end(self, type_: str, event: Any) -> None:
        carried = field(event, "message" if type_ == "done" else "error")
        message = _message(carried)
        if message is not None:
            self._close(message)
            if message.stop_reason is not None:
                return
            # The event alone says how it ended; the line in the file would be that of an open one.
        reason, text = field(event, "reason"), _text(carried, "error_message") or _text(carried, "message")
        if type_ == "done":
            self.end(reason if reason in get_args(DoneReason) else "stop")
        else:
            self.end(reason if reason in get_args(ErrorReason) else "error", text or None)


_EVENTS = frozenset({f"{kind}_{action}" for kind in _KINDS for action in ("start", "delta", "end")} | {"done", "error"})


def _draft_of(event: Any, last: _Draft | None) -> _Draft | None:
    """Return the draft that an event is part of: a new one, the last one, or none."""
    type_ = _text(event, "type")
    if type_ == "start":
        return _Draft(event)
    if type_ not in _EVENTS:
        return None
    draft = last if last is not None and last.open else _Draft()
    draft.add(type_, event)
    return draft


def _text(value: Any, name: str) -> str:
    text = field(value, name)
    return text if isinstance(text, str) else ""


def _fields(kind: str, event: Any) -> dict[str, Any]:
    """Return what a start or an end says of its block; an end need not repeat what came before it."""
    if kind == "toolcall":
        call = field(event, "tool_call") or event
        if isinstance(call, ToolCall):
            found = msgspec.structs.asdict(call)
        else:
            found = {"id": _text(call, "id"), "name": _text(call, "name"), "arguments_json": arguments_text(call)}
    else:
        found = {kind: _text(event, "content")}
        if kind == "thinking":
            found |= {"signature": _text(event, "signature"), "redacted": bool(field(event, "redacted"))}
    return {name: value for name, value in found.items() if value}


def _message(carried: Any) -> AssistantMessage | None:
    """Return a message, also one that was read from its JSON."""
    return carried if isinstance(carried, AssistantMessage) else message_from_json(carried)


def _append(path: Path, lines: bytes) -> None:
    """Append all of `lines` to the file, or leave it as it was."""
    with FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        # Closing the file releases the lock. Without one, the end of the file may be the middle of a write.
        _lock(file)
        size = file.seek(0, os.SEEK_END)
        # A last line without its end (another program's, or a machine that died) must not swallow the next message.
        if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
            lines = b"\n" + lines
        try:
            while lines:
                lines = lines[file.write(lines) :]
        except OSError:
            file.truncate(size)
            raise


def _lock(file: FileIO) -> None:
    """Exclude other processes and threads, where the system and the file system can."""
    # No flock on Windows; network file systems may refuse it. A transcript is still better written than not.
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
