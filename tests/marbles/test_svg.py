"""A picture as SVG is well-formed, readable in any light, and its texts do not lie on one another."""

from __future__ import annotations

import itertools
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxauth.events import Start, TextDelta
from rxauth.marbles import Diagram, Mark, Timeline
from rxauth.marbles._signs import cells
from tests.marbles.streams import DIAGRAMS, DONE, REJECTED, deltas, lived

SVG = "{http://www.w3.org/2000/svg}"


def sample(title: str = "A title") -> Diagram:
    row = lived("what the user sees", (0.0, Start()), (3.0, REJECTED), *deltas(99, 4, 0.01), (6.0, DONE), completed=6.0)
    return Diagram(row, Timeline.of_marks("server", [(0.5, "POST /v1/messages 401")]), title=title)


def texts(svg: str) -> list[tuple[float, float, float, str]]:
    """Left, right, baseline and content of each text, the letters on the signs aside."""
    boxes = []
    for element in ET.fromstring(svg).iter(f"{SVG}text"):
        if element.get("fill") != "#fff":
            width = cells(element.text or "") * float(element.get("font-size", "")) * 0.602
            x = float(element.get("x", "0")) - (width / 2 if element.get("text-anchor") == "middle" else 0)
            boxes.append((x, x + width, float(element.get("y", "0")), element.text or ""))
    return boxes


def test_svg_describes_itself_in_words() -> None:
    root = ET.fromstring(sample("A & B <c> \"d\" 'e'").svg())
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext(f"{SVG}title") == "A & B <c> \"d\" 'e'"
    assert root.findtext(f"{SVG}desc") == (
        "what the user sees: start, error event, text_delta ×99, done, completed. server: POST /v1/messages 401."
    )


@pytest.mark.parametrize("text", ["<script>", "&amp;", '"', "]]>", "\x00\x1b", "\ud800", "\ufffe"], ids=ascii)
def test_no_text_breaks_out_of_the_svg(text: str) -> None:
    row = lived(text, (0, TextDelta(0, text)), (1, text), (2, {"type": text})).with_note(text, at=1)
    root = ET.fromstring(Diagram(row, Timeline.of_marks(text, [(0, text)]), title=text).svg())
    allowed = {"svg", "title", "desc", "style", "g", "text", "path", "rect", "circle"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= allowed


def test_svg_needs_nothing_from_elsewhere() -> None:
    assert not re.search(r"href|url\(|@import|<script|<image|\bid=", sample().svg())


def test_svg_is_as_wide_as_asked_and_shrinks_on_a_narrow_page() -> None:
    root = ET.fromstring(sample().svg(500))
    assert root.get("width") == "500"
    assert root.get("viewBox", "").startswith("0 0 500 ")
    assert root.get("style") == "max-width:100%;height:auto"
    assert sample().svg(500) == sample().svg(500) != sample().svg() == sample()._repr_svg_()


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
        group = re.search(r"<g [^>]*><title>(.*?)</title>(.*?)</g>", svg)
        assert group is not None
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
def test_every_shape_shows_on_white_and_on_near_black(ground: str) -> None:
    bare = re.sub(r"<style>.*?</style>", "", sample().svg())  # a code host removes style sheets
    colours = set(re.findall(r'(?:fill|stroke)="(#\w{6})"', bare))
    # WCAG 2.1, 1.4.11: graphics need 3:1. Signs have a white letter of 4.5:1 on them besides.
    assert min(_contrast(colour, ground) for colour in colours) >= 2.5
    fills = set(re.findall(r'fill="(#\w{6})"/><text', bare))
    assert fills
    assert min(_contrast(fill, "#ffffff") for fill in fills) >= 4.5


def test_text_has_its_own_colours_on_a_dark_page() -> None:
    style = re.search(r"<style>(.*?)</style>", sample().svg())
    assert style is not None
    assert "@media (prefers-color-scheme:dark)" in style[1]
    assert all(rule.strip().startswith((".rxm", "@media", "}")) for rule in re.findall(r"(?:^|})([^{}]+){", style[1]))


def test_a_folded_run_ends_before_the_next_sign() -> None:
    row = lived("row", (0.0, Start()), *deltas(99, 1, 0.01), (2.0, "a"), (2.0, "b"), (2.0, "c"), completed=9.0)
    svg = Diagram(row).svg()
    assert [content for *_, content in texts(svg) if "99" in content] == ["×99"]
    run, group = (re.search(each, svg) for each in (r'H([\d.]+)M[^"]*" .*stroke-width="1.5"', r'<rect x="([\d.]+)"'))
    assert run is not None
    assert group is not None
    assert float(run[1]) <= float(group[1])


@given(DIAGRAMS, st.integers(240, 1200))
@settings(deadline=None)
def test_no_text_lies_on_another_or_outside(diagram: Diagram, width: int) -> None:
    svg = diagram.svg(width)
    overlapping: list[Any] = [
        (one, other)
        for one, other in itertools.combinations([each for each in texts(svg) if each[3]], 2)
        if abs(one[2] - other[2]) < 9 and one[0] < other[1] - 0.5 and other[0] < one[1] - 0.5
    ]
    assert overlapping == []
    height = float(ET.fromstring(svg).get("height", "0"))
    assert [each for each in texts(svg) if each[0] < 0 or each[1] > width or not 0 < each[2] < height] == []
