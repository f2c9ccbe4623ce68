"""Prints the bytes of memory of one idle subscription: `idle recover_auth|bare COUNT`."""

from __future__ import annotations

import sys

from reactivex import Observable
from reactivex.subject import Subject

from rxauth import recover_auth

from .memory import resident
from .operators import START, Event, refresh


def main(kind: str, count: int) -> None:
    sources: list[Subject[Event]] = []

    def subscribed() -> object:
        source: Subject[Event] = Subject()
        sources.append(source)
        pipeline: Observable[Event] = source.pipe(recover_auth(refresh)) if kind == "recover_auth" else source
        subscription = pipeline.subscribe(lambda event: None)
        source.on_next(START)
        return subscription

    kept = [subscribed() for _ in range(count)]  # they take the room that the imports have left
    before = resident()
    kept += [subscribed() for _ in range(count)]
    print((resident() - before) / count)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
