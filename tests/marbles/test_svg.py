"""A picture as SVG is well-formed, readable in any light, and its texts do not lie on one another."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.events import Start, TextDelta
from rxauth.marbles import Diagram, Mark, Timeline
from rxauth.marbles._signs import cells
from tests.marbles.streams import DIAGRAMS, DONE, REJECTED, deltas, ticks

SVG = "{http://www.w3.org/2000/svg}"
ROW = ticks("what the user sees", (0.0, Start()), (3.0, REJECTED), *deltas(99, 4, 0.01), (6.0, DONE), completed=6.0)
SAMPLE = Diagram(
    ROW, Timeline.of_marks("server", [(0.5, "POST /v1/messages 401")], unit="ticks"), title='A & B <c> "d"'
)


def test_svg_describes_itself_and_is_as_wide_as_asked() -> None:
    root = ET.fromstring(SAMPLE.svg(500))
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext(f"{SVG}title") == 'A & B <c> "d"'
    assert root.findtext(f"{SVG}desc") == (
        "what the user sees: start, error event, text_delta ×99, done, completed. server: POST /v1/messages 401."
    )
    assert root.get("width") == "500"
    assert root.get("viewBox", "").startswith("0 0 500 ")
    assert root.get("style") == "max-width:100%;height:auto"
    assert SAMPLE.svg(500) == SAMPLE.svg(500) != SAMPLE.svg() == SAMPLE._repr_svg_()


@pytest.mark.parametrize("text", ["<script>", "&amp;", '"', "]]>", "\x00\x1b", "\ud800", "\ufffe"], ids=ascii)
def test_no_text_breaks_out_of_the_svg(text: str) -> None:
    row = ticks(text, (0, TextDelta(0, text)), (1, text), (2, {"type": text})).with_note(text, at=1)
    svg = Diagram(row, Timeline.of_marks(text, [(0, text)], unit="ticks"), title=text).svg()
    allowed = {"svg", "title", "desc", "style", "g", "text", "path", "rect", "circle"}
    assert {element.tag.removeprefix(SVG) for element in ET.fromstring(svg).iter()} <= allowed
    assert not re.search(r"href|url\(|@import|<script|<image|\bid=", svg), "it needs nothing from elsewhere"


def test_every_kind_has_a_letter_or_a_shape_of_its_own() -> None:
    marks = [Mark(0, "next", value) for value in (Start(), REJECTED, DONE, TextDelta(0, ""))]
    marks += [Mark(0, "error"), Mark(0, "completed"), Mark(0, "disposed")]
    svgs = [Diagram(Timeline("", (mark,))).svg() for mark in marks]
    groups = [re.sub(r'="#\w+"', "", "".join(re.findall(r"<g .*?</title>(.*?)</g>", svg)[:1])) for svg in svgs]
    assert len(set(groups)) == len(marks)


def _contrast(colour: str, ground: str) -> float:
    """WCAG 2.1's contrast ratio."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#0d1117"])
def test_every_shape_shows_on_white_and_on_near_black(ground: str) -> None:
    bare = re.sub(r"<style>.*?</style>", "", SAMPLE.svg())  # a code host removes style sheets
    colours = set(re.findall(r'(?:fill|stroke)="(#\w{6})"', bare))
    # WCAG 2.1, 1.4.11: graphics need 3:1. Signs have a white letter of 4.5:1 on them besides.
    assert min(_contrast(colour, ground) for colour in colours) >= 2.5
    assert min(_contrast(fill, "#ffffff") for fill in re.findall(r'fill="(#\w{6})"/><text', bare)) >= 4.5


def test_text_has_its_own_colours_on_a_dark_page() -> None:
    style = re.search(r"<style>(.*?)</style>", SAMPLE.svg())
    assert style is not None
    assert "@media (prefers-color-scheme:dark)" in style[1]
    assert all(rule.strip().startswith((".rxm", "@media", "}")) for rule in re.findall(r"(?:^|})([^{}]+){", style[1]))


def _texts(svg: str) -> list[tuple[float, float, float]]:
    """Left, right and baseline of each text, the letters on the signs aside."""
    boxes = []
    for element in ET.fromstring(svg).iter(f"{SVG}text"):
        if element.text and element.get("fill") != "#fff":
            width = cells(element.text) * float(element.get("font-size", "")) * 0.602
            x = float(element.get("x", "0")) - (width / 2 if element.get("text-anchor") == "middle" else 0)
            boxes.append((x, x + width, float(element.get("y", "0"))))
    return boxes


@given(DIAGRAMS, st.integers(240, 1200))
@settings(deadline=None)
def test_no_text_lies_on_another_or_outside(diagram: Diagram, width: int) -> None:
    svg = diagram.svg(width)
    texts = _texts(svg)
    for one, other in itertools.combinations(texts, 2):
        assert abs(one[2] - other[2]) >= 9 or one[0] >= other[1] - 0.5 or other[0] >= one[1] - 0.5
    height = float(ET.fromstring(svg).get("height", "0"))
    assert [each for each in texts if each[0] < 0 or each[1] > width or not 0 < each[2] < height] == []
