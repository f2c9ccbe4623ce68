"""What rxauth costs, as ratios with limits: `python -m tests.benchmarks [--quick] [--json PATH] [--only WORD]`.

Exits 1 where a limit is missed. `--quick` is a smoke check: its numbers mean nothing, and it exits 1 for an exception
only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import clients, crossing, crowds, decoder, imports, operators, waiting
from .contest import Result, Row, hold, rows

SHOWN = (operators, clients, crossing, crowds, decoder, imports, waiting)  # in this order
PACKAGES = ("reactivex", "aiohttp", "msgspec", "tenacity", "anthropic", "openai")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="What rxauth costs.")
    parser.add_argument("--quick", action="store_true", help="a smoke check: small, two rounds, no verdict")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    parser.add_argument("--only", default="", metavar="WORD", help="only the rows whose name contains this")
    parser.add_argument("--rounds", type=float, default=1.0, metavar="FACTOR", help="so many times the usual rounds")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)

    chosen = [
        Row(row.name, row.kind, row.limit, max(1, round(row.rounds * options.rounds)), row.measure)
        for row in rows
        if options.only.lower() in row.name.lower()
    ]
    if not chosen:
        parser.error(f"no row has {options.only!r} in its name")
    begun = time.monotonic()
    results = hold(chosen, quick=options.quick, told=lambda text: print(f"\r{text}  ", end="", file=sys.stderr))
    print("\r", end="", file=sys.stderr)
    print(table(results))
    print(f"\n{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {time.monotonic() - begun:.0f} s")
    if options.json is not None:
        options.json.write_text(json.dumps(report(results, quick=options.quick), indent=2) + "\n")
    missed = [result.row.name for result in results if not result.met]
    if missed and not options.quick:
        print(f"\n{len(missed)} missed: {'; '.join(missed)}")
        return 1
    return 0


def table(results: list[Result]) -> str:
    width = max(len(result.row.name) for result in results)
    lines = [f"{'':{width}}   {'median':>8}  {'quartiles':>17}   {'limit':>7}"]
    for result in results:
        if result.not_measured is not None:
            lines.append(f"{result.row.name:{width}}   not measured: {result.not_measured}")
            continue
        low, high = result.quartiles
        verdict = "" if result.met else "  MISSED"
        figures = f"{result.value:8.3g}  {low:8.3g} {high:8.3g}"
        lines.append(f"{result.row.name:{width}}   {figures}   {limit(result.row):>7}{verdict}")
    return "\n".join(lines)


def limit(row: Row) -> str:
    sign = {"at most": "≤", "at least": "≥", "exactly": "="}[row.kind]
    return "" if row.limit is None else f"{sign} {row.limit:g}"


def report(results: list[Result], *, quick: bool) -> dict[str, Any]:
    return {
        "quick": quick,
        "python": platform.python_version(),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "packages": {name: installed_version(name) for name in PACKAGES},
        "rows": [
            {
                "name": result.row.name,
                "limit": result.row.limit,
                "limit_is": result.row.kind,
                "met": result.met,
                "not_measured": result.not_measured,
                "median": result.value if result.subject else None,
                "quartiles": result.quartiles if result.subject else None,
                "rounds": len(result.subject),
                "subject_median": statistics.median(result.subject) if result.subject else None,
                "base_median": statistics.median(result.base) if result.base else None,
            }
            for result in results
        ],
    }


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
