"""Run every scenario with every client and write the tables into README.md.

python -m tests.peers                      all clients; writes README.md
python -m tests.peers rxauth_messages      these only; prints their tables
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import subprocess
import sys
import warnings

from .drivers import DRIVERS, Driver
from .report import Column, section, write
from .running import run
from .scenarios import SCENARIOS, Scenario
from .verdict import Result, faults

AT_ONCE = 2
"""Scenarios under way at the same time: most of them wait."""


async def results_of(client: Driver) -> dict[str, Result]:
    """Run every scenario; one that went wrong gets a second chance alone, because a busy machine is no fault."""
    await run(client, Scenario(name="imports what is imported at the first call", expected="answer"))
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(scenario: Scenario) -> Result:
        async with gate:
            return await run(client, scenario)

    results = dict(zip((each.name for each in SCENARIOS), await asyncio.gather(*map(one, SCENARIOS)), strict=True))
    for scenario in SCENARIOS:
        if faults(scenario, results[scenario.name]):
            again = await run(client, scenario)
            if not faults(scenario, again):
                results[scenario.name] = again
    return results


def column(name: str) -> Column:
    client = DRIVERS[name]
    sys.stderr.write(f"{client.name}\n")
    with contextlib.redirect_stdout(io.StringIO()):
        results = asyncio.run(results_of(client))
    command = [sys.executable, "-m", "tests.peers.speed", name]
    try:
        speed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=180).stdout)
    except subprocess.SubprocessError as error:
        sys.stderr.write(f"{name} was not measured: {error}\n")
        speed = {}
    return Column(client, results, speed)


def main(names: list[str]) -> None:
    logging.disable()
    warnings.simplefilter("ignore")
    columns = [column(name) for name in names or DRIVERS]
    if names:
        print(section(columns))
    else:
        write(columns)


if __name__ == "__main__":
    main(sys.argv[1:])
