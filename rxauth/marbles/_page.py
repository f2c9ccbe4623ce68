"""Answer what a reader did in the playground: pictures, the consumer's view, and the scene to take along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rxauth.marbles._layout import arrange
from rxauth.marbles._scene import Scene
from rxauth.marbles._svg import CELL, MARGIN, SVG, draw_svg
from rxauth.marbles._take import snippet, table_row

__all__ = ["answer"]


def answer(state: Mapping[str, Any]) -> dict[str, Any]:
    """Run the scene of a page, and return what the page shows.

    `script` is the picture of the rows that can be changed, and `xs` the place of each of its ticks, in pixels.
    """
    scene = Scene.of_state(state)
    run = scene.run(stages=bool(state.get("stages")))
    starts = run.seen.count("s")
    view = f"The consumer sees {run.seen or 'nothing'}"
    if starts > 1:
        view += f": {starts} starts"
    if run.phantoms:
        view += f", {run.phantoms} of them a message that stays empty (the phantom)"
    script, xs, width = _script(scene)
    return {
        "script": script,
        "xs": xs,
        "result": run.picture.svg(width),
        "seen": run.seen,
        "view": f"{view}.",
        "row": table_row(scene, run),
        "snippet": snippet(scene, run),
    }


def _script(scene: Scene) -> tuple[str, list[float], int]:
    rows, names = scene.script()
    last = int(max(row.open_until or 0.0 for row in rows))
    most = max(len(row.marks) for row in rows)
    cells = 24 + max(6 * last, 5 * last + SVG.sign * most)  # so wide that no event is folded
    layout = replace(arrange(rows, "", cells, SVG), legend=[])  # that of the result is enough
    assert layout.columns is not None
    left = MARGIN + layout.left * CELL + CELL * SVG.sign / 2
    xs = [left + layout.columns.x(tick) * CELL for tick in range(last + 1)]
    width = cells * CELL + 2 * MARGIN
    return draw_svg(layout, "Your stream", width, names), xs, width
