"""A stream as a list of `(time, item)`: an item is an event or an `End`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Event:
    type: str
    label: str = ""
    status: int | None = None

    def __repr__(self) -> str:
        return self.label or self.type


@dataclass(frozen=True)
class End:
    """`error` is None for a completion."""

    error: Exception | None = None


Script: TypeAlias = Sequence[tuple[int, Event | End]]
