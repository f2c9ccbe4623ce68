"""Run a notebook from scratch, and find the stored outputs that have changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

LIVE = "live"
"""The tag of a cell whose output depends on real time: it is executed, and never compared."""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},  # without a version: the same bytes from every Python
}

# Every Python imports it when it starts: what leaves this machine fails, where it is attempted.
_OFFLINE = """
import ipaddress
import sys


def stay_here(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple) and not ipaddress.ip_address(args[1][0]).is_loopback:
        raise RuntimeError(f"a notebook left this machine for {args[1]}")
    if event == "socket.getaddrinfo" and args[0] not in (None, "", "localhost", "127.0.0.1", "::1", b"127.0.0.1"):
        raise RuntimeError(f"a notebook asked for the address of {args[0]}")


sys.addaudithook(stay_here)
"""


def read(path: Path) -> Any:
    """A notebook as it is stored."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def write(notebook: Any, path: Path) -> None:
    """Store it, the same bytes for the same content."""
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


async def execute(stored: Any, directory: Path) -> Any:
    """The notebook after a run of all its cells in a new kernel, offline, with `directory` as its home.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = nbformat.from_dict({**stored, "metadata": METADATA, "cells": [_blank(cell) for cell in stored.cells]})  # type: ignore[no-untyped-call]
    (directory / "sitecustomize.py").write_text(_OFFLINE)
    places = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "RXAUTH_HOME")
    home = {name: str(directory) for name in places}
    # The kernel has a home of its own: it neither reads nor writes the files of the person who runs this.
    client = NotebookClient(
        notebook,
        timeout=60,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        config=Config(AsyncKernelManager={"connection_file": str(directory / "kernel.json")}),
    )
    await client.async_execute(env={**os.environ, **home, "PYTHONPATH": str(directory)}, cwd=str(directory))
    notebook.metadata = nbformat.from_dict(METADATA)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):  # a widget lives as long as its kernel: what is stored is its picture
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


def stale(stored: Any, fresh: Any) -> list[str]:
    """Return the cells whose output has changed, except those that depend on real time."""
    changed = []
    for number, (before, after) in enumerate(zip(stored.cells, fresh.cells, strict=True), 1):
        live = before.cell_type != "code" or LIVE in before.metadata.get("tags", ())
        if not live and _shown(before) != _shown(after):
            changed.append(f"cell {number}, now:\n{_shown(after)}")
    return changed


def _shown(cell: Any) -> list[Any]:
    return [output.get("text") or dict(output.get("data", {})) for output in cell.outputs]


def _blank(cell: Any) -> Any:
    return {**cell, "outputs": [], "execution_count": None} if cell.cell_type == "code" else dict(cell)
