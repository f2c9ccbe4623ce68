"""The notebooks and the pictures that are drawn with the library."""

from __future__ import annotations

from pathlib import Path

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def paths() -> list[Path]:
    """The notebooks, in their order."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))
