"""The project's texts name the actor and use the field's verbs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    *sorted(each for folder in ("rxauth", "tests") for each in (ROOT / folder).rglob("*.py*") if each.suffix != ".pyc"),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
    *sorted(ROOT.glob("*.md")),
]

# Words without an actor, verbs that a reader has to translate, and texts that open with "What ..." as their subject.
UNPLAIN = re.compile(
    r"\b(?: whoever | nobody | somebody | no-one | let(?:s|ting)?\ go | the\ deed )\b"
    r"| \b(?:is|are|was|were|be|been)\ told\b"
    r'| (?-i: (?:"""|\#\ ) What\ )',
    re.IGNORECASE | re.VERBOSE,
)


def test_texts_are_plain() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:90]}"
        for path in FILES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if UNPLAIN.search(line) and path != Path(__file__)
    ]
    assert found == []


def test_name_of_a_test_is_short() -> None:
    """A name says the subject and the outcome; the scenario stands in the parameter's id."""
    definition = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
    names = [
        name for path in (ROOT / "tests").rglob("test_*.py") for name in definition.findall(path.read_text("utf-8"))
    ]
    assert sorted(name for name in names if len(name) > 60) == []


@pytest.mark.parametrize("folder", ["rxauth", "tests"])
def test_file_is_at_most_400_lines(folder: str) -> None:
    lengths = {each.name: len(each.read_text("utf-8").splitlines()) for each in (ROOT / folder).rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
