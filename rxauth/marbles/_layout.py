"""Where everything goes: one time axis for all rows, in cells. Terminal and SVG draw from the same layout.

Every moment gets the column that its time asks for, as far as the rows' signs leave it room; where they do not, it
moves right, and the axis is stretched there. What still does not fit is folded: first runs of the same sign on a row
("t×37═══"), then what is close together in time ("(s‹t×9)"), at last the middle of a group. Nothing is cut off.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rxauth.failures import type_of
from rxauth.marbles._notes import Measure, Note
from rxauth.marbles._record import Timeline
from rxauth.marbles._signs import Alphabet, Sign, clean, failure_name, is_failure_event, said

__all__ = ["Cell", "Layout", "Metrics", "Token", "Track", "arrange"]

_RUN = 4  # "tttt" becomes "t×4"; three are shorter as they are
_BENT = 0.2  # of the true scale may be lost before a run is folded: a picture of times should look like the times
_INSTANT = 1e-9  # s, or ticks: no clock tells less apart, and a scale would overflow


@dataclass(frozen=True, slots=True)
class Token:
    """One sign, `count` times in a row from `time` until `until`; without a sign, `count` that were folded away."""

    sign: Sign | None
    time: float
    until: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """What a row shows at one moment; `offsets` are the tokens' columns."""

    x: int
    end: int
    tokens: tuple[Token, ...]
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Track:
    """One row, laid out. `line` is where its stream lived, `runs` where a folded run or group went on."""

    timeline: Timeline
    cells: tuple[Cell, ...]
    line: tuple[int, int] | None
    runs: tuple[tuple[int, int], ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """All rows on one axis. `ticks` are the axis' labels and their columns; the legend needs the rest."""

    tracks: tuple[Track, ...]
    ticks: tuple[tuple[int, str], ...]
    unit: str
    signs: tuple[Sign, ...]
    runs: bool
    groups: bool
    coarse: bool


@dataclass(frozen=True, slots=True)
class Metrics:
    """How many cells things need in what is drawn.

    `sign`: one marble; `count`: the "×37" beside it; `folded`: the "…×37…"; `opening`, `closing`: the brackets of a
    group; `clear`: kept free before a group; `tick`: most cells for one virtual tick; `label`: a text of the axis.
    """

    sign: int
    count: Measure
    folded: Measure
    opening: int
    closing: int
    clear: int
    tick: int
    label: Measure

    def width(self, token: Token) -> int:
        """The cells one token needs."""
        if token.sign is None:
            return self.folded(f"×{token.count}")
        return self.sign + (self.count(f"×{token.count}") if token.count > 1 else 0)

    def cell(self, x: int, tokens: Sequence[Token]) -> Cell:
        """The tokens side by side from column `x`."""
        offsets = []
        at = x + (self.opening if len(tokens) > 1 else 0)
        for index, token in enumerate(tokens):
            if index and tokens[index - 1].count > 1 and token.sign is not None and token.sign.letter.isdigit():
                at += 1  # "×3" and "7" must not be read as "×37"
            offsets.append(at)
            at += self.width(token)
        return Cell(x, at + (self.closing if len(tokens) > 1 else 0), tuple(tokens), tuple(offsets))


@dataclass(frozen=True, slots=True)
class _Level:
    """How hard to fold."""

    near: float  # seconds or ticks that count as one moment
    runs: bool
    widest: int  # cells for one group
    stretch: float  # how much of the true scale may be given up
    strict: bool = False  # whatever is further right is later, also on another row
    coarse: bool = False  # more than one column's worth of time counts as one moment


def arrange(timelines: Sequence[Timeline], alphabet: Alphabet, columns: int, metrics: Metrics) -> Layout:
    """Lay the rows out on one axis of so many columns."""
    whole_width = columns
    if any(timeline.is_open for timeline in timelines):
        columns -= metrics.sign  # for the arrows
    rows = [_tokens(timeline, alphabet) for timeline in timelines]
    folded = [_fold_runs(row) for row in rows]
    moments = sorted(
        {mark.time for timeline in timelines for mark in timeline.marks}
        | {timeline.open_until for timeline in timelines if timeline.open_until is not None}
    )
    if not moments:
        return Layout(
            tuple(Track(timeline, (), None, (), ()) for timeline in timelines), (), "", (), False, False, False
        )
    span = moments[-1] - moments[0]
    span = span if span > _INSTANT else 0.0
    virtual = timelines[0].unit == "ticks"
    whole = virtual and all(float(moment - moments[0]).is_integer() for moment in moments)
    frame = _Frame(metrics, columns, whole_width, 0.0 if whole else span / max(1, columns - 1))
    longest = max((token.count for row in folded for token in row), default=0)
    crowded = max(2 * longest, *map(len, rows)) * metrics.sign > columns
    for level in _levels(span, columns, whole, metrics):
        if crowded and not level.runs:
            continue
        plan = _Plan(timelines, folded if level.runs else rows, level, frame)
        for scale in _scales(span, columns, level.stretch, metrics.tick if whole else 0):
            if plan.place(scale):
                return plan.layout(moments[0], virtual)
    raise AssertionError("one group per row always fits")  # pragma: no cover


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the picture is drawn into: columns for the moments, columns for the lines, and the time that nobody sees."""

    metrics: Metrics
    columns: int
    whole_width: int
    soon: float


def _levels(span: float, columns: int, whole: bool, metrics: Metrics) -> Iterator[_Level]:
    """From the truest picture to the most folded one."""
    column = span / max(1, columns - 1)
    # What happens one after the other is shown so where there is room, though it be in the same column of a true scale.
    for near in (0.0,) if whole else (column / 16, column / 4, column):
        yield _Level(near, False, columns, _BENT, strict=True)
        yield _Level(near, False, columns, _BENT)
    for near, stretch in ((column / 4, 2 * _BENT), (column, 1.0)):
        yield _Level(near, True, columns, stretch, strict=True)
        yield _Level(near, True, columns, stretch)
    ends = 2 * (metrics.sign + metrics.count("×99"))  # a group whose middle is folded shows how it begins and ends
    least = min(columns // 2, metrics.opening + ends + metrics.folded("×9999") + metrics.closing)
    for power in range(1, 12):
        yield _Level(column * 2**power, True, max(columns >> power, least), 1.0, coarse=True)
    yield _Level(span + 1, True, columns, 1.0, coarse=True)


class _Plan:
    """One try: the moments, what each row shows at them, and their columns."""

    def __init__(
        self,
        timelines: Sequence[Timeline],
        rows: Sequence[list[Token]],
        level: _Level,
        frame: _Frame,
    ) -> None:
        self._timelines = timelines
        self._metrics = frame.metrics
        self._columns = frame.columns
        self._frame = frame
        self._strict = level.strict
        self._coarse = level.coarse
        moments = {token.time for row in rows for token in row} | {token.until for row in rows for token in row}
        for timeline in timelines:
            moments |= {mark.time for mark in timeline.marks if mark.kind == "note"}
            moments |= {time for time in (self._begin(timeline), timeline.open_until) if time is not None}
        self._starts = list(_clusters(sorted(moments), level.near))
        self._contents: list[dict[int, list[Token]]] = []
        self._runs: list[dict[int, float]] = []  # by moment: until when what begins there goes on
        for row in rows:
            content: dict[int, list[Token]] = {}
            runs: dict[int, float] = {}
            for token in row:
                at = self._cluster(token.time)
                content.setdefault(at, []).append(token)
                if level.coarse or token.count > 1:
                    runs[at] = token.until
            if level.runs:
                content = {at: self._fit(_fold_runs(tokens), level.widest) for at, tokens in content.items()}
            self._contents.append(content)
            self._runs.append(runs)
        self._widths = [
            {at: frame.metrics.cell(0, tokens).end for at, tokens in content.items()} for content in self._contents
        ]
        self._present = [
            {row: content[index] for row, content in enumerate(self._contents) if index in content}
            for index in range(len(self._starts))
        ]
        self._xs: list[int] = []

    def place(self, scale: float) -> bool:
        """Give every moment its column; false if they do not fit."""
        free = [0] * len(self._contents)  # the first free column of each row
        self._xs = []
        for index, start in enumerate(self._starts):
            x = round((start - self._starts[0]) * scale)
            if self._xs:
                x = max(x, self._xs[-1] + 1)
            present = self._present[index]
            for row, tokens in present.items():
                x = max(x, free[row] + (self._metrics.clear if free[row] and len(tokens) > 1 else 0))
            if self._strict:
                x = max([x, *free])
            self._xs.append(x)
            for row, tokens in present.items():
                end = x + self._widths[row][index]
                free[row] = end + (1 if tokens[-1].count > 1 else 0)
                if end > self._columns:
                    return False
        return self._xs[-1] < self._columns

    def layout(self, origin: float, virtual: bool) -> Layout:
        """The finished layout, once `place` has found the columns."""
        tracks = [self._track(row) for row in range(len(self._timelines))]
        later: set[str] = set()
        for index in reversed(range(len(tracks))):  # what several rows say alike is quoted under the last of them
            track = tracks[index]
            tracks[index] = replace(track, notes=tuple(n for n in track.notes if not (n.quote and n.text in later)))
            later |= {note.text for note in track.notes if note.quote}
        ticks, unit = _ticks(self._starts, self._xs, origin, virtual, self._columns, self._metrics)
        tokens = [token for track in tracks for cell in track.cells for token in cell.tokens]
        signs = tuple(dict.fromkeys(token.sign for token in tokens if token.sign is not None))
        groups = any(len(cell.tokens) > 1 for track in tracks for cell in track.cells)
        runs = any(track.runs for track in tracks)
        return Layout(tuple(tracks), ticks, unit, signs, runs, groups, self._coarse)

    def _track(self, row: int) -> Track:
        timeline = self._timelines[row]
        cells: dict[int, Cell] = {}
        free = self._columns
        for at, tokens in sorted(self._contents[row].items(), reverse=True):
            x = self._xs[at]
            if self._coarse:  # what is together on this row may begin later than what is together on all of them
                room = free - self._widths[row][at] - 1
                x = max(x, min(self._inside(tokens[0].time), room))
            cells[at] = self._metrics.cell(x, tokens)
            free = x
        laid = sorted(cells.values(), key=lambda cell: cell.x)
        runs = []
        for at, time in self._runs[row].items():
            cell = cells[at]
            until = min([self._inside(time), *(other.x - 1 for other in laid if other.x > cell.x)])
            if until >= cell.end:
                runs.append((cell.end, until))
        line = self._line(timeline, cells)
        return Track(timeline, tuple(laid), line, tuple(runs), tuple(self._notes(timeline, laid)))

    def _begin(self, timeline: Timeline) -> float | None:
        """When a row's line begins. A `start` that comes at once is where it begins: nobody sees the microseconds."""
        lived = [mark.time for mark in timeline.marks if mark.kind not in ("mark", "note")]
        soon = len(lived) > 1 and lived[1] - lived[0] <= self._frame.soon
        return lived[soon] if lived else None

    def _line(self, timeline: Timeline, cells: dict[int, Cell]) -> tuple[int, int] | None:
        time = self._begin(timeline)
        if time is None:
            return None
        begin = min([self._inside(time) if self._coarse else self._x(time), *(cell.x for cell in cells.values())])
        if timeline.is_open:
            return begin, self._frame.whole_width - 1
        ends = [mark.time for mark in timeline.marks if mark.kind in ("error", "completed", "disposed")]
        end = ends[0] if ends else timeline.marks[-1].time
        last = cells.get(self._cluster(end))
        return begin, last.x if last is not None else self._x(end)

    def _notes(self, timeline: Timeline, laid: Sequence[Cell]) -> Iterator[Note]:
        where = [(token, x) for cell in laid for token, x in zip(cell.tokens, cell.offsets, strict=True)]
        for token, x in where:
            if token.sign is not None and token.sign.shape == "dot":
                yield Note(x, token.sign.name + (f" ×{token.count}" if token.count > 1 else ""), token.sign)
        for mark in timeline.marks:
            if mark.kind == "note":
                at = [x for token, x in where if token.time <= mark.time <= token.until]
                yield Note(at[0] if at else self._x(mark.time), clean(str(mark.value)))
            elif mark.kind == "error" or (mark.kind == "next" and is_failure_event(mark.value)):
                letter = "#" if mark.kind == "error" else "e"
                at = [x for token, x in where if token.time <= mark.time <= token.until and _letter(token) == letter]
                name = failure_name(mark.value)
                if at and name:
                    yield Note(at[0], name)
        for time, text in _quotes(timeline):
            at = [x for token, x in where if token.time <= time <= token.until and _letter(token) == "t"]
            if at:
                yield Note(at[0], f'"{clean(text).strip()}"', quote=True)

    def _fit(self, tokens: list[Token], widest: int) -> list[Token]:
        """Fold the middle of a group away until it fits."""
        kept = min(len(tokens) // 2, widest // self._metrics.sign)
        total = sum(token.count for token in tokens)
        shown = tokens
        while kept > 0 and (len(shown) * self._metrics.sign > widest or self._metrics.cell(0, shown).end > widest):
            kept -= 1
            first, last = tokens[:kept], tokens[len(tokens) - kept :]
            count = total - sum(token.count for token in (*first, *last))
            shown = [*first, Token(None, tokens[kept].time, tokens[-kept - 1].until, count), *last]
        return shown

    def _cluster(self, time: float) -> int:
        return bisect_right(self._starts, time) - 1

    def _inside(self, time: float) -> int:
        """The column of a time, though it be told together with others that came before it."""
        return _between(self._starts, self._xs, time)

    def _x(self, time: float) -> int:
        return self._xs[max(0, self._cluster(time))]


def _tokens(timeline: Timeline, alphabet: Alphabet) -> list[Token]:
    drawn = (mark for mark in timeline.marks if mark.kind not in ("subscribed", "note"))
    return [Token(alphabet.sign(mark), mark.time, mark.time) for mark in drawn]


def _fold_runs(tokens: Sequence[Token]) -> list[Token]:
    folded: list[Token] = []
    index = 0
    while index < len(tokens):
        end = index
        while end < len(tokens) and tokens[end].sign == tokens[index].sign:
            end += 1
        count = sum(token.count for token in tokens[index:end])
        if count >= _RUN:
            folded.append(Token(tokens[index].sign, tokens[index].time, tokens[end - 1].until, count))
        else:
            folded.extend(tokens[index:end])
        index = end
    return folded


def _clusters(moments: Sequence[float], near: float) -> Iterator[float]:
    start: float | None = None
    for moment in moments:
        if start is None or (moment > start and moment - start >= near):
            start = moment
            yield start


def _scales(span: float, columns: int, stretch: float, tick: int) -> Iterator[float]:
    """Columns per second or tick, from the true scale down to none. Whole ones for whole ticks: the eye counts them."""
    if span <= 0:
        yield 0.0
        return
    most = (columns - 1) / span
    if tick:
        yield from range(min(tick, int(most)), 0, -1)
    for left in range(columns - 1, round((columns - 1) * (1 - stretch)) - 1, -1):
        if not tick or left / span < 1:
            yield left / span


def _ticks(
    starts: Sequence[float], xs: Sequence[int], origin: float, virtual: bool, columns: int, metrics: Metrics
) -> tuple[tuple[tuple[int, str], ...], str]:
    span = starts[-1] - origin
    span = span if span > _INSTANT else 0.0
    unit, size = ("ticks", 1.0) if virtual else _unit(span)
    best: list[tuple[int, str]] = [(xs[0], "0")]
    step = 10.0 ** math.floor(math.log10(span / size / columns)) if span > 0 else 0.0
    while step > 0 and step <= span / size:
        for factor in (1, 2, 5):
            if virtual and step * factor < 1:
                continue
            ticks: list[tuple[int, str]] = []
            for number in range(int(span / size / (step * factor) + 1e-9) + 1):
                x = _between(starts, xs, origin + number * step * factor * size)
                text = f"{round(number * step * factor, 9):.9g}"
                if x + metrics.label(text) <= columns and (
                    not ticks or x >= ticks[-1][0] + metrics.label(ticks[-1][1])
                ):
                    ticks.append((x, text))
            if len(ticks) > len(best) and len(ticks) <= max(3, columns // (2 * metrics.label("100"))):
                best = ticks
        step *= 10
    return tuple(best), unit


def _unit(span: float) -> tuple[str, float]:
    return ("s", 1.0) if span >= 2 or not span else ("ms", 1e-3) if span >= 2e-3 else ("µs", 1e-6)


def _between(starts: Sequence[float], xs: Sequence[int], time: float) -> int:
    """The column of a time: exact at a moment, in proportion between two."""
    at = max(0, bisect_right(starts, time) - 1)
    if at + 1 >= len(starts):
        return xs[at]
    share = max(0.0, time - starts[at]) / (starts[at + 1] - starts[at])
    return xs[at] + math.floor(share * (xs[at + 1] - xs[at]) + 1e-9)


def _quotes(timeline: Timeline) -> Iterator[tuple[float, str]]:
    """What each message of the row says, at the time of its first words."""
    time, text = 0.0, list[str]()
    for mark in timeline.marks:
        words = said(mark.value) if mark.kind == "next" else None
        if words:
            time = time if text else mark.time
            text.append(words)
        elif mark.kind == "next" and text and _opens(mark.value):
            yield time, "".join(text)
            text = []
    if text:
        yield time, "".join(text)


def _opens(value: object) -> bool:
    return bool(type_of(value) == "start")


def _letter(token: Token) -> str:
    return token.sign.letter if token.sign is not None else ""
