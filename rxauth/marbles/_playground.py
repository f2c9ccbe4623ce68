"""A widget for a notebook cell: change a stream, and see what the operators make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rxauth.marbles._page import Page
from rxauth.marbles._scene import OPERATORS, Scene
from rxauth.marbles._strings import read
from rxauth.marbles._svg import CELL, MARGIN, WIDE, draw_svg, middle


def playground(
    *attempts: str,
    refresh: str = "--r|",
    operators: Iterable[str] | Mapping[str, Mapping[str, Any]] = ("recover_auth",),
    stages: bool = False,
) -> Any:
    """Show a stream whose events can be dragged, added, removed and turned into another kind, and the result.

    The real operators run in virtual time, so the picture shows nothing that is not so.

    Args:
        attempts: a diagram for each subscription: `s` start, letters text, `e` an error event with status 401, `x` one
            with 429, `#` an exception with 401, `|` complete.
        refresh: how long it takes, and its result: `r` a new token, `n` none (the same), `#` an exception.
        operators: names from the list in the widget, or a mapping from names to options.
        stages: draw the output of each operator.

    Returns:
        An `anywidget.AnyWidget`. Its `scene` is the state, its `picture` the answer: among others `seen` (what the
        consumer saw, as a diagram), `row` (a row of a marble table) and `snippet` (code for a cell or for pytest).

    Raises:
        ImportError: anywidget is not installed: `pip install 'rxauth[notebook]'`.
        ValueError: an operator or an option that the playground does not have, or no diagram.
    """
    return _widget()(scene=state_of(attempts or ("s--e", "s---a---b---|"), refresh, operators, stages=stages))


def state_of(
    attempts: Iterable[str],
    refresh: str = "--r|",
    operators: Iterable[str] | Mapping[str, Mapping[str, Any]] = (),
    *,
    stages: bool = False,
) -> dict[str, Any]:
    """Return the state that page and kernel share, as the arguments of a `Scene`."""
    given = operators if isinstance(operators, Mapping) else {name: {} for name in operators}
    options = {name: {**OPERATORS.get(name, {}), **given[name]} for name in given}
    state: dict[str, Any] = {
        "attempts": [list(read(diagram)) for diagram in attempts],
        "refresh": next(read(refresh), (len(refresh), "r")),
        "operators": options,
        "stages": stages,
    }
    Scene(**state)  # raises where it makes no sense
    return state


def answer(state: Mapping[str, Any]) -> dict[str, Any]:
    """Run the scene of a page, and return what the page shows.

    `script` is the picture of the rows that can be changed, and `xs` the place of each of its ticks, in pixels.
    """
    scene = Scene(**state)
    starts = scene.seen.count("s")
    view = f"The consumer sees {scene.seen or 'nothing'}"
    if starts > 1:
        view += f": {starts} starts"
    if scene.phantoms:
        view += f", {scene.phantoms} of them a message that stays empty (the phantom)"
    rows, names = scene.script()
    last = int(max(row.open_until or 0.0 for row in rows))
    most = max(len(row.marks) for row in rows)
    columns = 16 + max(4 * last, 3 * last + WIDE * most)  # so wide that no event is folded
    page = Page(rows, "", columns, WIDE, legend=False)  # that of the result is enough
    width = columns * CELL + 2 * MARGIN
    return {
        "script": draw_svg(page, "Your stream", width, names),
        "xs": [middle(page.left + page.placed.x(tick)) for tick in range(last + 1)] if page.placed else [],
        "result": scene.picture.svg(width),
        "seen": scene.seen,
        "view": f"{view}.",
        "row": scene.table_row(),
        "snippet": scene.snippet(),
    }


@cache
def _widget() -> type[Any]:
    """Make the widget's class, once: only a notebook needs anywidget."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError("The playground needs anywidget: pip install 'rxauth[notebook]'.") from error

    class Playground(anywidget.AnyWidget):  # type: ignore[misc, unused-ignore]
        """The state that page and kernel share."""

        _esm = Path(__file__).with_name("_playground.js")
        _css = Path(__file__).with_name("_playground.css")
        scene = traitlets.Dict().tag(sync=True)
        picture = traitlets.Dict().tag(sync=True)
        operators = traitlets.Dict(OPERATORS).tag(sync=True)

        @traitlets.observe("scene")
        def _redraw(self, change: Any) -> None:
            try:
                self.picture = answer(self.scene)
            except ValueError as error:  # an option that no operator takes
                self.picture = {**self.picture, "error": str(error)}

        def _repr_mimebundle_(self, **more: Any) -> Any:
            bundle: Any = super()._repr_mimebundle_(**more)
            data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
            # A page that cannot run widgets, such as a code host, shows the picture.
            return {**data, "image/svg+xml": self.picture["result"], "text/plain": self.picture["view"]}, metadata

    return Playground
