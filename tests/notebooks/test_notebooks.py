"""Every notebook runs from scratch, offline, and its stored drawings are the ones that come out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.notebooks import executing, paths

pytestmark = pytest.mark.notebook


def notebook(*cells: str, tags: tuple[str, ...] = ()) -> Any:
    made = [nbformat.v4.new_code_cell(each, metadata={"tags": list(tags)}) for each in cells]  # type: ignore[no-untyped-call]
    return nbformat.v4.new_notebook(cells=made)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
async def test_a_notebook_stores_the_output_of_a_fresh_run(path: Path, tmp_path: Path) -> None:
    stored = executing.read(path)
    fresh = await executing.execute(stored, tmp_path)
    assert list(executing.stale(stored, fresh)) == [], "python -m tests.notebooks stores what comes out now"


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_a_stored_notebook_has_a_picture_and_an_assert(path: Path) -> None:
    stored = executing.read(path)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("image/svg+xml" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert any(line.lstrip().startswith("assert ") for cell in code[-3:] for line in cell.source.splitlines())
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]


async def test_a_drawing_that_has_changed_is_found(tmp_path: Path) -> None:
    fresh = await executing.execute(
        notebook("from rxauth.marbles import Diagram, Timeline\nDiagram(Timeline('a'))"), tmp_path
    )
    stored = copy.deepcopy(fresh)
    assert list(executing.stale(stored, fresh)) == []
    stored.cells[0].outputs[0].data["image/svg+xml"] += " "
    assert [each[:6] for each in executing.stale(stored, fresh)] == ["cell 1"]


async def test_what_depends_on_real_time_is_not_compared(tmp_path: Path) -> None:
    live = notebook("import time\ntime.monotonic()", tags=(executing.LIVE,))
    assert list(executing.stale(live, await executing.execute(live, tmp_path))) == []


async def test_a_cell_that_raises_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="assert 1 == 2"):
        await executing.execute(notebook("assert 1 == 2"), tmp_path)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)", id="to an address"),
        pytest.param("import socket\nsocket.getaddrinfo('example.com', 80)", id="to a name"),
    ],
)
async def test_a_notebook_that_leaves_this_machine_is_a_failure(code: str, tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="a notebook"):
        await executing.execute(notebook(code), tmp_path)
