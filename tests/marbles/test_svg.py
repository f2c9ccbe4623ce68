"""The picture as SVG is well-formed, readable in any light, and its texts do not lie on one another."""

from __future__ import annotations

import itertools
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rxauth.events import Start, TextDelta
from rxauth.marbles import Diagram, Mark, Timeline
from rxauth.marbles._signs import cells
from tests.marbles.streams import DONE, REJECTED, lived
from tests.marbles.test_text import DIAGRAMS, deltas

SVG = "{http://www.w3.org/2000/svg}"


def sample(title: str = "A title") -> Diagram:
    row = lived("what the user sees", (0.0, Start()), (3.0, REJECTED), *deltas(99, 4, 0.01), (6.0, DONE), completed=6.0)
    return Diagram(row, Timeline.of_marks("server", [(0.5, "POST /v1/messages 401")]), title=title)


def texts(svg: str) -> list[tuple[float, float, float, str]]:
    """Left, right, baseline and content of what is written, marbles' own letters aside."""
    boxes = []
    for element in ET.fromstring(svg).iter(f"{SVG}text"):
        if element.get("fill") == "#fff":
            continue
        content = element.text or ""
        size = float(re.findall(r"[\d.]+", element.get("style", "") or element.get("font-size", ""))[0])
        width = cells(content) * size * 0.602
        x = float(element.get("x", "0"))
        x -= {"middle": width / 2, "end": width}.get(element.get("text-anchor", ""), 0)
        boxes.append((x, x + width, float(element.get("y", "0")), content))
    return boxes


def marbles(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text") if element.get("fill") == "#fff"]


def test_it_is_well_formed_and_says_what_it_is() -> None:
    root = ET.fromstring(sample("A & B <c> \"d\" 'e'").svg())
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext(f"{SVG}title") == "A & B <c> \"d\" 'e'"
    assert root.findtext(f"{SVG}desc") == (
        "what the user sees: start, error event, text_delta ×99, done, completed. server: POST /v1/messages 401."
    )


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "&amp;", '"', "]]>", "\x00\x1b", "\ud800", "\ufffe"], ids=ascii
)
def test_no_text_breaks_out_of_it(text: str) -> None:
    row = lived(text, (0, TextDelta(0, text)), (1, text), (2, {"type": text})).with_note(text, at=1)
    root = ET.fromstring(Diagram(row, Timeline.of_marks(text, [(0, text)]), title=text).svg())
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "desc", "style", "g", "text", "path", "rect", "circle"),
    }


def test_the_same_rows_give_the_same_bytes() -> None:
    assert sample().svg() == sample().svg()
    assert sample().svg(500) != sample().svg()


def test_it_is_as_wide_as_asked() -> None:
    root = ET.fromstring(sample().svg(500))
    assert root.get("width") == "500"
    assert root.get("viewBox", "").split()[:3] == ["0", "0", "500"]


def test_it_needs_nothing_from_elsewhere() -> None:
    assert not re.search(r"href|url\(|@import|<script|<image|\bid=", sample().svg())


def test_every_kind_has_a_letter_or_a_shape_of_its_own() -> None:
    shapes: dict[str, str] = {}
    for value, kind in [
        (Start(), "next"),
        (REJECTED, "next"),
        (DONE, "next"),
        (TextDelta(0, ""), "next"),
        (None, "error"),
    ]:
        svg = Diagram(Timeline("", (Mark(0, kind, value),))).svg()  # type: ignore[arg-type]
        group = re.search(r"<g><title>(.*?)</title>\s*(.*?)</g>", svg, re.DOTALL)
        assert group is not None
        assert re.search("<(path|rect|circle)", group[2])
        shapes[group[1]] = re.sub(r"(fill|stroke)=\"#\w+\"", "", group[2])
    assert len(set(shapes.values())) == len(shapes) == 5


def _contrast(colour: str, ground: str) -> float:
    def luminance(code: str) -> float:
        parts = [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#0d1117"])
def test_every_shape_shows_on_white_and_on_near_black_without_a_style_sheet(ground: str) -> None:
    bare = re.sub(r"<style>.*?</style>", "", sample().svg())
    for colour in set(re.findall(r'(?:fill|stroke)="(#\w{6})"', bare)):
        # WCAG 2.1, 1.4.11: graphics need 3:1. Marbles have a white letter of 4.5:1 on them besides.
        assert _contrast(colour, ground) >= 2.5, colour


def test_letters_on_marbles_have_the_contrast_that_text_needs() -> None:
    marble_fills = set(re.findall(r'fill="(#\w{6})"/>', sample().svg()))
    assert marble_fills
    assert all(_contrast(fill, "#ffffff") >= 4.5 for fill in marble_fills)


def test_text_has_its_own_colours_on_a_dark_background() -> None:
    style = re.search(r"<style>(.*?)</style>", sample().svg())
    assert style is not None
    assert "@media (prefers-color-scheme:dark)" in style[1]
    assert all(rule.strip().startswith((".rxm", "@media", "}")) for rule in re.findall(r"(?:^|})([^{}]+){", style[1]))


def test_a_long_stream_is_folded() -> None:
    svg = sample().svg()
    assert marbles(svg).count("t") == 2, "one on the row, one in the legend"
    assert "×99" in [content for *_, content in texts(svg)]


def test_the_line_of_a_folded_run_ends_before_the_next_marble() -> None:
    row = lived("row", (0.0, Start()), *deltas(99, 1, 0.01), (2.0, "a"), (2.0, "b"), (2.0, "c"), completed=9.0)
    svg = Diagram(row).svg()
    run, group = (
        re.search(pattern, svg) for pattern in (r'H([\d.]+)M[^"]*" .*stroke-width="1.5"', r'<rect x="([\d.]+)"')
    )
    assert run is not None
    assert group is not None
    assert float(run[1]) <= float(group[1])


def test_the_legend_has_every_double_line_that_is_drawn() -> None:
    def double_lines(svg: str) -> int:
        return svg.count('stroke-width="1.5"')

    mixed = [(at * 0.01, "abc7"[at % 4]) for at in range(1000)]
    for elements in (deltas(99, 1, 0.1), mixed):
        row = lived("row", (0.0, Start()), *elements, completed=12.0)
        drawing = Diagram(row).svg()
        axis = drawing.index('stroke-opacity=".3"')
        legend = drawing[drawing.rindex(">start</text>", axis) :]
        assert 0 < double_lines(legend) < double_lines(drawing)


def test_it_is_the_picture_of_a_notebook_s_cell() -> None:
    assert sample()._repr_svg_() == sample().svg()


def overlapping(svg: str) -> list[Any]:
    return [
        (one, other)
        for one, other in itertools.combinations(texts(svg), 2)
        if abs(one[2] - other[2]) < 9 and one[0] < other[1] - 0.5 and other[0] < one[1] - 0.5 and one[3] and other[3]
    ]


LATE = lived("source", (2.0, Start()), (3.0, Start()), (52.5, Start()), unit="ticks", open_until=52.5)
LABEL_ABOVE = lived("retry_on_first_auth_error", completed=150, unit="ticks")


@given(DIAGRAMS, st.integers(240, 1200))
@example(Diagram(LABEL_ABOVE, lived("source", (150, Start()), completed=150, unit="ticks")), 304)
@example(Diagram(LATE), 240)
@settings(deadline=None)
def test_no_text_lies_on_another_or_outside(diagram: Diagram, width: int) -> None:
    svg = diagram.svg(width)
    assert overlapping(svg) == []
    root = ET.fromstring(svg)
    height = float(root.get("height", "0"))
    for left, right, baseline, content in texts(svg):
        assert left >= 0, content
        assert right <= width, content
        assert 0 < baseline < height, content


def test_on_a_narrow_page_it_shrinks_instead_of_being_cut() -> None:
    root = ET.fromstring(sample().svg())
    assert root.get("style") == "max-width:100%;height:auto"
    assert root.get("viewBox", "").split()[2] == root.get("width")
