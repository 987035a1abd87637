"""`python -m benchmarks [--large] [--only NAME] [--json FILE]` runs the benchmarks and prints a table."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

from benchmarks.measure import Row, table

SUITES = [
    "quorum_core",
    "lease_core",
    "replica",
    "cluster",
    "history",
    "check",
    "small_files",
    "bulk",
    "compression",
    "upkeep",
]
SUITES += ["recovery", "worst_recovery", "real_work"]
NEED_MOUNT = {"small_files", "bulk", "recovery", "real_work"}


def main() -> None:
    """Run the suites and print what they found."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--large", action="store_true", help="the sizes that the targets speak of (minutes)")
    parser.add_argument("--only", action="append", choices=SUITES, help="run this suite; may be repeated")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    options = parser.parse_args()
    can_mount = os.geteuid() == 0 and Path("/dev/fuse").exists()
    rows: list[Row] = []
    for name in options.only or SUITES:
        if name in NEED_MOUNT and not can_mount:
            print(f"{name}: left out, it needs root and /dev/fuse", file=sys.stderr)
            continue
        rows += importlib.import_module(f"benchmarks.{name}").run(options.large)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    )
    print(table(rows))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
