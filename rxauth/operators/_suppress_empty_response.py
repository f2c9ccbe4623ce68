from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from reactivex import Observable, abc

from rxauth.events import AssistantEvent, Done, Error, Text, TextDelta, TextEnd, TextStart, with_content


def suppress_empty_response(
    prefix: str = "(Empty response:",
) -> Callable[[Observable[AssistantEvent]], Observable[AssistantEvent]]:
    """Drop the placeholder text that a provider sends for an answer without text.

        source   s-[-m-m-]-d|     m: the placeholder, in pieces, in a block of its own
        result   s---------d|     without that block, also in the message of d

        source   s-[-m-a-]-d|     a block that only begins like a placeholder
        result   s-----([ma)-]-d| held text comes with the first piece that differs

    Kimi adds a text block "(Empty response: ..." to an answer that is nothing but thinking. Text is held only while
    it can still become a placeholder, and no event overtakes held text. A block that ends undecided, or is cut off, is
    emitted. The numbers of later blocks do not change.

    Args:
        prefix: the text with which a placeholder begins.

    Returns:
        An operator.

    Raises:
        ValueError: `prefix` is empty.

    >>> import reactivex as rx
    >>> from rxauth.events import AssistantMessage
    >>> placeholder = Text("(Empty response: only thinking)")
    >>> events = rx.of(TextStart(0), TextDelta(0, placeholder.text), TextEnd(0, placeholder.text),
    ...     Done("stop", AssistantMessage(content=(placeholder,))))
    >>> _ = events.pipe(suppress_empty_response()).subscribe(lambda event: print(event.type, event.message.content))
    done ()
    """
    if not prefix:
        raise ValueError("The prefix is empty: every text begins with it.")

    def operator(source: Observable[AssistantEvent]) -> Observable[AssistantEvent]:
        def subscribe(
            observer: abc.ObserverBase[AssistantEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            undecided: dict[int, str] = {}  # the text so far of each block that can still become a placeholder
            placeholders: set[int] = set()
            held: deque[AssistantEvent] = deque()

            def on_next(event: AssistantEvent) -> None:
                match event:
                    case TextStart(index):
                        undecided[index] = ""
                    case TextDelta(index, delta) if index in undecided:
                        text = undecided.pop(index) + delta
                        if text.startswith(prefix):
                            placeholders.add(index)
                        elif prefix.startswith(text):
                            undecided[index] = text
                    case TextEnd(index):
                        undecided.pop(index, None)
                    case Done() | Error():
                        undecided.clear()
                        event = without_placeholder(event)
                held.append(event)
                release()

            def release() -> None:
                while held:
                    event = held[0]
                    if isinstance(event, TextStart | TextDelta | TextEnd):
                        if event.content_index in undecided:
                            return
                        if event.content_index in placeholders:
                            held.popleft()
                            continue
                    observer.on_next(held.popleft())

            def without_placeholder(event: Done | Error) -> Done | Error:
                message = event.message if isinstance(event, Done) else event.error
                kept = tuple(
                    block
                    for block in message.content
                    if not (isinstance(block, Text) and block.text.startswith(prefix))
                )
                return event if len(kept) == len(message.content) else with_content(event, kept)

            def end(notify: Callable[..., None], *error: Exception) -> None:
                undecided.clear()
                release()
                notify(*error)

            return source.subscribe(
                on_next, partial(end, observer.on_error), partial(end, observer.on_completed), scheduler=scheduler
            )

        return Observable(subscribe)

    return operator
