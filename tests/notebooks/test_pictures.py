"""The pictures of the README are the ones that are drawn now, and it names every notebook."""

from __future__ import annotations

import pytest

from tests.notebooks import NOTEBOOKS, paths, pictures

README = NOTEBOOKS.parent / "README.md"


def test_the_notebooks_are_numbered() -> None:
    assert [path.name[:2] for path in paths()] == [f"{number}_" for number in range(6)]


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_of_the_readme_is_drawn_as_now(name: str) -> None:
    stored = pictures.DIRECTORY / name
    assert stored.read_text() == pictures.draw(name).svg(), "python -m tests.notebooks draws it again"
    assert f"({stored.relative_to(README.parent)})" in README.read_text()


def test_the_pictures_show_two_starts_and_one() -> None:
    screens = [pictures.draw(name).rows[-1].values for name in pictures.PICTURES]
    assert [[event.type for event in seen].count("start") for seen in screens] == [2, 1]


def test_the_readme_names_every_notebook_and_how_to_open_them() -> None:
    text = README.read_text()
    assert [path.name for path in paths() if f"(notebooks/{path.name})" not in text] == []
    assert ".[notebook]' && .venv/bin/jupyter lab notebooks" in text
