"""After a crash, and with very many files: time to mount, memory of the mount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from benchmarks.measure import Row, timed
from benchmarks.places import run_gavel, scratch

# Fills a volume in a process of its own, says so, and waits to be killed.
FILL = textwrap.dedent(
    """
    import sys, time
    import gavel
    volume, count = sys.argv[1], int(sys.argv[2])
    fs = gavel.open(volume)
    for n in range(count):
        if n % 1000 == 0:
            fs.mkdir(f"d{n // 1000:05}")
        fs.write_bytes(f"d{n // 1000:05}/f{n % 1000:03}", b"%d" % n)
    fs.sync()
    print("ready", flush=True)
    time.sleep(3600)
    """
)


def daemon_of(volume: Path) -> int:
    """The process that serves a mounted volume."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                held = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
            except OSError:
                continue
            if str(volume) in held:
                return int(entry.name)
    raise RuntimeError(f"no process has {volume} open")


def resident(pid: int) -> float:
    """Resident memory in MiB: what it is, not what it was at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} is gone")


def fill_and_kill(volume: Path, count: int) -> None:
    """Fill a volume with `count` files and end the process that did it by SIGKILL, its log not checkpointed."""
    with subprocess.Popen([sys.executable, "-c", FILL, str(volume), str(count)], stdout=subprocess.PIPE) as filler:
        assert filler.stdout is not None
        try:
            assert filler.stdout.readline() == b"ready\n"
        finally:
            filler.send_signal(signal.SIGKILL)


def run(large: bool) -> list[Row]:
    """Rows; large: 1,000,000 files."""
    count = 1_000_000 if large else 500
    with scratch() as base:
        volume, mount = base / "disk.gavel", base / "mnt"
        mount.mkdir()
        run_gavel("mkfs", str(volume), "--size", "16G")
        fill_and_kill(volume, count)
        seconds = timed(lambda: run_gavel("mount", str(volume), str(mount)))
        try:
            before = resident(daemon_of(volume))
            found = subprocess.run(["find", str(mount), "-type", "f"], capture_output=True, check=True).stdout
            assert found.count(b"\n") == count
            after = resident(daemon_of(volume))
        finally:
            run_gavel("umount", str(mount))
    return [
        Row(f"mount after SIGKILL ({count:,} files)", "s", seconds, "", 0, seconds, "<= 2"),
        Row(f"memory of the mount after find ({count:,})", "MiB", after, "at start", before, after / before, "<= 400"),
    ]
