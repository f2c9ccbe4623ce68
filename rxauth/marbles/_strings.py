"""Read and write marble diagrams as strings: `----(sa)--b--|`. One column is one tick."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby


def read(diagram: str, marks: str = "") -> Iterator[tuple[float, str]]:
    """Yield every item of a diagram with its tick.

    Args:
        diagram: letters, digits, `|`, `#`, groups in brackets, `-` for a tick; or a list as `write` makes it. Spaces at
            both ends are ignored.
        marks: more characters that are items.

    Raises:
        ValueError: that is no diagram.

    >>> list(read("-(ab)|")), list(read("a@1 |@2.5"))
    ([(1, 'a'), (1, 'b'), (5, '|')], [(1, 'a'), (2.5, '|')])
    """
    if "@" in diagram:
        for item, _, at in (each.partition("@") for each in diagram.split()):
            if len(item) != 1 or not (item.isalnum() or item in "|#" + marks):
                raise ValueError(f"{diagram!r} is no diagram: {item!r} is no item.")
            yield _tick(float(at)), item
        return
    group: int | None = None
    for column, char in enumerate(diagram.strip(" ")):
        if char == "(" and group is None:
            group = column
        elif char == ")" and group is not None and column > group + 1:
            group = None
        elif char == "-" and group is None:
            continue
        elif char.isalnum() or char in "|#" + marks:
            yield (column if group is None else group), char
        else:
            raise ValueError(f"{diagram!r} is no diagram: {char!r} cannot stand in column {column}.")
    if group is not None:
        raise ValueError(f"{diagram!r} is no diagram: the group in column {group} has no end.")


def write(items: Iterable[tuple[float, str]], start: float = 0) -> str:
    """Return the diagram of items in the order of time; list them as `letter@time` where no diagram can say it.

    A time between two ticks and one inside the width of a group have no column, and an item has one letter.

    >>> write([(1, "a"), (1, "b"), (5, "|")]), write([(1, "a"), (1, "b"), (2, "|")])
    ('-(ab)|', 'a@1 b@1 |@2')
    """
    items = [(_tick(at), item) for at, item in items]
    diagram = ""
    for at, together in groupby(items, key=lambda item: item[0]):
        letters = [letter for _, letter in together]
        column = at - start
        if len(diagram) > column or column != int(column) or any(len(letter) > 1 for letter in letters):
            return " ".join(f"{letter}@{at}" for at, letter in items)
        diagram = diagram.ljust(int(column), "-") + (letters[0] if len(letters) == 1 else f"({''.join(letters)})")
    return diagram


def _tick(time: float) -> float:
    """Drop the fraction of a whole number: a list of items shows it."""
    return int(time) if float(time).is_integer() else time
