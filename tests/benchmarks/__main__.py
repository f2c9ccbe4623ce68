"""Print the costs of rxauth, as ratios with limits: `python -m tests.benchmarks [--quick] [--json PATH] [--only WORD]`.

Exits 1 where a limit is missed. `--quick` is a smoke check: its numbers mean nothing, and it exits 1 for an exception
only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from . import clients, crowds, fresh, operators
from .rows import Row, hold, stage

PACKAGES = ("reactivex", "aiohttp", "msgspec", "tenacity", "anthropic", "openai")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="What rxauth costs.")
    parser.add_argument("--quick", action="store_true", help="a smoke check: small, two rounds, no verdict")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    parser.add_argument("--only", default="", metavar="WORD", help="only the rows whose name contains this")
    parser.add_argument("--rounds", type=float, default=1.0, metavar="FACTOR", help="so many times the usual rounds")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)

    begun = time.monotonic()
    with stage(scale=20 if options.quick else 1) as shared:
        rows = [row for module in (operators, clients, crowds, fresh) for row in module.rows(shared)]
        rows = [row for row in rows if options.only.lower() in row.name.lower()]
        if not rows:
            parser.error(f"no row has {options.only!r} in its name")
        for row in rows:
            row.rounds = 2 if options.quick else max(1, round(row.rounds * options.rounds))
        hold(rows)
    print(table(rows))
    print(f"\n{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {time.monotonic() - begun:.0f} s")
    if options.json is not None:
        report = {
            "quick": options.quick,
            "python": platform.python_version(),
            "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
            "packages": {name: version(name) for name in PACKAGES},
            "rows": [{"name": row.name, "limit": row.limit, "met": row.met, "costs": row.costs} for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    missed = [row.name for row in rows if not row.met]
    if missed and not options.quick:
        print(f"\n{len(missed)} missed: {'; '.join(missed)}")
        return 1
    return 0


def table(rows: list[Row]) -> str:
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}   {'median':>8}  {'quartiles':>17}   {'limit':>7}"]
    for row in rows:
        low, median, high = row.quartiles
        verdict = "" if row.met else "  MISSED"
        lines.append(f"{row.name:{width}}   {median:8.3g}  {low:8.3g} {high:8.3g}   {row.limit:>7}{verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
