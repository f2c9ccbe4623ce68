"""What an import costs, in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import reactivex

import rxauth

from .contest import Contest, Cost, row


@row("import rxauth / import reactivex", at_most=1.1, rounds=15)
def the_package(scale: int) -> Generator[Contest]:
    yield Contest(importing("import rxauth"), importing("import reactivex"))


@row("from rxauth import recover_auth / import reactivex", rounds=15)
def the_usual_operator(scale: int) -> Generator[Contest]:
    yield Contest(importing("from rxauth import recover_auth"), importing("import reactivex"))


def importing(statement: str) -> Cost:
    # -P, -S and an explicit path: how a package was installed (an editable one has an import hook) is not its cost.
    path = os.pathsep.join(str(Path(module.__file__ or "").parents[1]) for module in (rxauth, reactivex))
    code = f"import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
    command = [sys.executable, "-P", "-S", "-c", code]

    def cost() -> float:
        done = subprocess.run(command, env={"PYTHONPATH": path}, check=True, capture_output=True, text=True)
        return float(done.stdout)

    return cost
