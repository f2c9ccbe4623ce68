"""Run all notebooks, or those named, and store what comes out; draw the README's pictures again.

python -m tests.notebooks [notebooks/1_the_phantom.ipynb ...]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.notebooks import executing, paths, pictures


async def main(paths: list[Path]) -> None:
    for path in paths:
        with tempfile.TemporaryDirectory() as directory:
            begun = time.monotonic()
            executing.write(await executing.execute(executing.read(path), Path(directory)), path)
            print(f"{path.name}: {time.monotonic() - begun:.1f} s")
    for name in pictures.PICTURES:
        (pictures.DIRECTORY / name).write_text(pictures.draw(name).svg())


if __name__ == "__main__":
    asyncio.run(main([Path(name) for name in sys.argv[1:]] or paths()))
