"""The benchmarks at their small sizes, so that they never rot. What they find is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mount_daemon import needs_mount

ROOT = Path(__file__).resolve().parents[2]


@needs_mount
@pytest.mark.mounts
@pytest.mark.parametrize(
    ("suite", "works"),
    [
        ("history", ["put", "get", "as-of"]),
        ("small_files", ["create", "stat", "find", "unlink"]),
        ("bulk", ["write", "read", "untar"]),
        ("recovery", ["mount after SIGKILL", "memory"]),
        ("real_work", ["git", "SQLite"]),
        ("check", ["trees", "records"]),
        ("compression", ["in process", "log in MB", "mounted"]),
        ("worst_recovery", ["here and there", "small commits", "removed all over"]),
        ("cluster", ["one transaction", "disjoint", "one counter", "fsync at the end", "longest gap", "idle"]),
        ("upkeep", ["commit, memory: p99", "commit with fsync, file: p99"]),
    ],
)
def test_a_suite_runs_and_says_what_it_found(suite: str, works: list[str], tmp_path: Path) -> None:
    report = tmp_path / "report" / "rows.json"
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", suite, "--json", str(report)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads(report.read_text())
    for work in works:
        found = [row for row in rows if work in row["work"]]
        assert found, f"no row about {work}"
        assert all(row["gavel"] >= 0 and row["unit"] for row in found)
        assert all(row["work"] in run.stdout for row in found)
