"""The soak for seconds, so that it never rots, and proof that its verdicts can be bad."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from soak import verdict
from soak.load import Worker
from soak.model import File, Mismatch
from soak.verdict import Sample
from tests.integration.mount_daemon import eventually, needs_mount

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def soak(base: Path, seconds: int, seed: int) -> subprocess.Popen[bytes]:
    options = ["--seconds", str(seconds), "--seed", str(seed), "--keep", "5", "--size", "2G"]
    places = ["--base", str(base / "here"), "--report", str(base / "report")]
    command = [sys.executable, "-m", "soak", *options, *places]
    with open(base / "said", "w") as said:  # a pipe that nobody reads meanwhile would fill up, and hold it
        return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)


@needs_mount
@pytest.mark.mounts
def test_some_seconds_of_it(tmp_path: Path) -> None:
    with soak(tmp_path, 12, 1) as running:
        running.wait(200)
    said = (tmp_path / "said").read_text()
    assert running.returncode == 0, said
    report = json.loads((tmp_path / "report").read_text())
    assert report["faults"] == report["leaks"] == []
    assert {"make", "overwrite", "rename", "xattr", "unlink", "read"} <= report["done"].keys()
    assert report["upkeep"]["prune"] >= 1
    assert len(report["samples"]) >= 8
    assert "flat, and all is well" in said
    assert not (tmp_path / "here").exists()


@needs_mount
@pytest.mark.mounts
def test_a_change_behind_its_back_is_a_fault(tmp_path: Path) -> None:
    """Planted: another program cuts files of a worker short, and makes none."""
    top = tmp_path / "here" / "mnt" / "w0"
    with soak(tmp_path, 60, 2) as running:

        def spoilt() -> bool:
            for path in top.glob("n*"):
                with contextlib.suppress(OSError):
                    if path.is_file() and not path.is_symlink():
                        os.truncate(path, 1)
            return running.poll() is not None

        eventually(spoilt, 120)
    said = (tmp_path / "said").read_text()
    assert running.returncode == 1, said
    report = json.loads((tmp_path / "report").read_text())
    assert any("Mismatch" in fault for fault in report["faults"]), report["faults"]
    assert (tmp_path / "here" / "disk.gavel").exists(), "it is left to be looked at"


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """One that has worked on the host's filesystem, where all is well."""
    worker = Worker(tmp_path / "top", 5, None)
    for _ in range(1500):
        worker.step()
    worker.compare()
    return worker


def test_a_worker_finds_a_changed_byte_a_lost_name_and_a_lost_xattr(worker: Worker) -> None:
    kinds = {name for name, count in worker.done.items() if count}
    assert {"make_big", "overwrite", "truncate", "orphan", "remove_tree", "symlink", "read"} <= kinds
    path, file = next((path, one) for path, one in worker.tree.items() if isinstance(one, File) and one.content)
    worker.at(path).write_bytes(file.content[:-1] + bytes([file.content[-1] ^ 1]))
    with pytest.raises(Mismatch, match=f"differ from byte {len(file.content) - 1} on"):
        worker.compare()
    worker.at(path).write_bytes(file.content)
    worker.compare()
    worker.tree[path] = file._replace(xattrs=(*file.xattrs, ("user.zzz", b"lost")))
    with pytest.raises(Mismatch, match="xattrs"):
        worker.compare()
    worker.tree[path] = file
    worker.at(path).unlink()
    with pytest.raises(Mismatch, match="lacks"):
        worker.compare()


def flat(count: int = 400) -> list[Sample]:
    """An hour: caches fill in the first quarter, later memory goes up and down, connections come and go."""
    filling = [min(1.0, at / (count / 4)) for at in range(count)]
    return [Sample(9.0 * at, int((60 + 200 * filling[at] + at % 7) * MIB), 17 + at % 3) for at in range(count)]


def test_what_is_flat_is_called_so() -> None:
    assert verdict.leaks(flat()) == []
    assert abs(verdict.rise(flat()[100:])) < 0.01


def test_memory_that_rises_and_descriptors_that_leak_are_found() -> None:
    rising = [one._replace(resident=one.resident + at * MIB // 10) for at, one in enumerate(flat())]
    assert ["memory" in text for text in verdict.leaks(rising)] == [True]
    few_more = [one._replace(descriptors=one.descriptors + 4 * (at > 290)) for at, one in enumerate(flat())]
    assert ["descriptors" in text for text in verdict.leaks(few_more)] == [True]
    assert verdict.leaks(flat()[:5]), "too few to say anything"


LEAKING = """
import os, sys, time
held = []
print("up", flush=True)
while True:
    held.append((bytearray(1 << 20), os.dup(0)))
    time.sleep(0.02)
"""


def test_a_process_that_leaks_is_found_by_its_samples() -> None:
    with subprocess.Popen([sys.executable, "-c", LEAKING], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            samples = [verdict.sample(process.pid, 0.0)]
            while samples[-1].descriptors < samples[0].descriptors + 100:
                samples.append(verdict.sample(process.pid, float(len(samples))))
        finally:
            process.kill()
    found = verdict.leaks(samples, judge_memory=True)
    assert len(found) == 2 and "memory" in found[0] and "descriptors" in found[1]
    with pytest.raises(ProcessLookupError):
        verdict.sample(process.pid, 0.0)
