from __future__ import annotations

from collections import deque
from collections.abc import Callable

from reactivex import Observable, abc

from rxauth.events import AssistantEvent, Done, Error, Text, TextDelta, TextEnd, TextStart, with_content


def suppress_empty_response(
    prefix: str = "(Empty response:",
) -> Callable[[Observable[AssistantEvent]], Observable[AssistantEvent]]:
    """Drop the text block that a provider makes up for an answer without text.

        source   s-[-m-m-]-d|     m: the marker, piece by piece, in a block of its own
        result   s---------d|     without that block, also in the message of d

        source   s-[-m-a-]-d|     a block that only begins like the marker
        result   s-----([ma)-]-d| held text comes with the first piece that differs

    Kimi wraps an answer that is nothing but thinking into a text block "(Empty response: ...". Text is held only
    while it can still become the marker, and no event overtakes held text. A block that ends undecided, or is cut off,
    is emitted. The numbers of later blocks do not change.

    Args:
        prefix: the beginning of such a block.

    Returns:
        An operator.

    Raises:
        ValueError: `prefix` is empty.

    >>> import reactivex as rx
    >>> from rxauth.events import AssistantMessage
    >>> made_up = Text("(Empty response: only thinking)")
    >>> events = rx.of(TextStart(0), TextDelta(0, made_up.text), TextEnd(0, made_up.text),
    ...     Done("stop", AssistantMessage(content=(made_up,))))
    >>> _ = events.pipe(suppress_empty_response()).subscribe(lambda event: print(event.type, event.message.content))
    done ()
    """
    if not prefix:
        raise ValueError("The prefix is empty: every text begins with it.")

    def operator(source: Observable[AssistantEvent]) -> Observable[AssistantEvent]:
        def subscribe(
            observer: abc.ObserverBase[AssistantEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            undecided: dict[int, str] = {}  # the text so far of a block that can still become the marker
            made_up: set[int] = set()
            held: deque[AssistantEvent] = deque()

            def on_next(event: AssistantEvent) -> None:
                if isinstance(event, TextStart):
                    undecided[event.content_index] = ""
                elif isinstance(event, TextDelta):
                    decide(event.content_index, event.delta)
                elif isinstance(event, TextEnd):
                    undecided.pop(event.content_index, None)
                elif isinstance(event, Done | Error):
                    undecided.clear()
                    event = without_made_up(event)
                held.append(event)
                release()

            def decide(index: int, delta: str) -> None:
                if index not in undecided:
                    return
                text = undecided[index] + delta
                if text.startswith(prefix):
                    made_up.add(index)
                    del undecided[index]
                elif prefix.startswith(text):
                    undecided[index] = text
                else:
                    del undecided[index]

            def release() -> None:
                while held:
                    event = held[0]
                    if isinstance(event, TextStart | TextDelta | TextEnd):
                        if event.content_index in undecided:
                            return
                        if event.content_index in made_up:
                            held.popleft()
                            continue
                    observer.on_next(held.popleft())

            def without_made_up(event: Done | Error) -> Done | Error:
                message = event.message if isinstance(event, Done) else event.error
                kept = tuple(
                    block
                    for block in message.content
                    if not (isinstance(block, Text) and block.text.startswith(prefix))
                )
                return event if len(kept) == len(message.content) else with_content(event, kept)

            def on_error(error: Exception) -> None:
                undecided.clear()
                release()
                observer.on_error(error)

            def on_completed() -> None:
                undecided.clear()
                release()
                observer.on_completed()

            return source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator
