"""Programs that people run, inside the mount and beside it on the host: that they work, and how long they take."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Row, row, timed
from benchmarks.places import gavel, host, sync

HERE = Path(__file__).resolve().parents[1]


def git_clone(base: Path, large: bool) -> None:
    """Clone this very repository, check it out and verify every object."""
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(HERE), str(base / "clone")], check=True)
    subprocess.run(["git", "-C", str(base / "clone"), "fsck", "--full", "--strict"], check=True, capture_output=True)
    done = subprocess.run(["git", "-C", str(base / "clone"), "status", "--porcelain"], check=True, capture_output=True)
    assert done.stdout == b""


def pip_install(base: Path, large: bool) -> None:
    """Make a virtual environment and fill it with the packages that this project itself depends on, offline."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base / "venv")], check=True)
    packages = Path(sys.prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    target = next((base / "venv" / "lib").iterdir()) / "site-packages"
    wanted = sorted(packages.iterdir()) if large else sorted(packages.glob("msgspec*"))
    for package in wanted:
        if package.is_dir():
            shutil.copytree(package, target / package.name, symlinks=True)
    run = [str(base / "venv" / "bin" / "python"), "-c", "import msgspec; print(msgspec.json.encode([1]))"]
    assert subprocess.run(run, check=True, capture_output=True).stdout == b"b'[1]'\n"


def sqlite_wal(base: Path, large: bool) -> None:
    """Transactions on a database with a write-ahead log; at the end its own integrity check."""
    rows = 3000 if large else 50
    choice = random.Random(1)
    database = sqlite3.connect(base / "bank.db", isolation_level=None)
    try:
        assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
        database.execute("CREATE TABLE account(id INTEGER PRIMARY KEY, money INTEGER)")
        database.executemany("INSERT INTO account VALUES(?, 100)", [(n,) for n in range(100)])
        for _ in range(rows):
            a, b = choice.sample(range(100), 2)
            database.execute("BEGIN IMMEDIATE")
            database.execute("UPDATE account SET money = money - 1 WHERE id = ?", (a,))
            database.execute("UPDATE account SET money = money + 1 WHERE id = ?", (b,))
            database.execute("COMMIT")
        assert database.execute("SELECT sum(money) FROM account").fetchone() == (10_000,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        database.close()


def c_build(base: Path, large: bool) -> None:
    """Compile many small C files in parallel, link them, run the program."""
    count = 200 if large else 5
    for n in range(count):
        (base / f"f{n}.c").write_text(f"#include <stdio.h>\nint f{n}(int x) {{ return x + {n}; }}\n")
    calls = "\n".join(f"x += f{n}(0);" for n in range(count))
    declared = "\n".join(f"int f{n}(int);" for n in range(count))
    (base / "main.c").write_text(
        f'#include <stdio.h>\n{declared}\nint main(void) {{ int x = 0; {calls} printf("%d", x); }}'
    )
    (base / "Makefile").write_text(
        "o := $(patsubst %.c,%.o,$(wildcard *.c))\nall: $(o)\n\tcc -o all $(o)\n%.o: %.c\n\tcc -O1 -c $<\n"
    )
    subprocess.run(["make", "-s", "-j2", "-C", str(base)], check=True)
    assert subprocess.run([str(base / "all")], check=True, capture_output=True).stdout.decode() == str(
        sum(range(count))
    )


WORKS: list[tuple[str, Callable[[Path, bool], None], str]] = [
    ("git clone + fsck", git_clone, "git"),
    ("virtual environment with packages", pip_install, sys.executable),
    ("SQLite, WAL, transactions", sqlite_wal, sys.executable),
    ("C build", c_build, "cc"),
]


def run(large: bool) -> list[Row]:
    """Rows; a work whose program is missing is left out, saying so."""
    rows = []
    for name, work, program in WORKS:
        if shutil.which(program) is None:
            print(f"{name}: left out, {program} is not installed", file=sys.stderr)
            continue
        times: dict[str, list[float]] = {"gavel": [], "host": []}
        for place, enter in (("host", host), ("gavel", gavel)):
            with enter() as base:
                (base / "work").mkdir()

                def whole(base: Path = base, work: Callable[[Path, bool], None] = work) -> None:
                    work(base / "work", large)
                    sync(base)

                times[place].append(timed(whole))
        rows.append(row(name, "s", times["gavel"], "host", times["host"]))
    return rows
