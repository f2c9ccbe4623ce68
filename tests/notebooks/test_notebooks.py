"""Every notebook runs from scratch, offline, and its stored drawings are the ones that come out."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.notebooks import executing, paths

pytestmark = pytest.mark.notebook


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
async def test_a_notebook_stores_the_output_of_a_fresh_run(path: Path, tmp_path: Path) -> None:
    stored = executing.read(path)
    fresh = await executing.execute(stored, tmp_path)
    assert executing.stale(stored, fresh) == [], "python -m tests.notebooks stores what comes out now"


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_a_stored_notebook_has_a_picture_and_an_assert(path: Path) -> None:
    stored = executing.read(path)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("image/svg+xml" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert any(line.lstrip().startswith("assert ") for cell in code[-3:] for line in cell.source.splitlines())
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]


async def test_a_drawing_that_has_changed_is_found(tmp_path: Path) -> None:
    code = "import time\nfrom rxauth.marbles import Diagram, Timeline\nDiagram(Timeline(str(time.monotonic())))"
    cells = [nbformat.v4.new_code_cell(code, metadata={"tags": tags}) for tags in ([], [executing.LIVE])]  # type: ignore[no-untyped-call]
    stored = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    fresh = await executing.execute(stored, tmp_path)
    assert [each[:6] for each in executing.stale(stored, fresh)] == ["cell 1"]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("assert False, 'a notebook that is wrong'", id="that raises"),
        pytest.param("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)", id="to an address"),
        pytest.param("import socket\nsocket.getaddrinfo('example.com', 80)", id="to a name"),
    ],
)
async def test_a_notebook_that_fails_or_leaves_is_refused(code: str, tmp_path: Path) -> None:
    stored = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])  # type: ignore[no-untyped-call]
    with pytest.raises(CellExecutionError, match="a notebook"):
        await executing.execute(stored, tmp_path)
