"""Standard suites on a real mount. They are not part of this repository: environment variables say where they are.

The random ones run with prune, reblock, scrub and dedup beside them: without, an hour of them fills any volume.

GAVEL_PJDFSTEST   the program, with its folder `tests` beside it (needs prove)
GAVEL_FSX         fsx
GAVEL_FSSTRESS    fsstress
GAVEL_SOAK        run the random ones for an hour each instead of seconds
"""

import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.places import run_gavel
from soak.mounted import Mounted, upkeep
from tests.integration.mount_daemon import Served, needs_mount

pytestmark = [needs_mount, pytest.mark.mounts, pytest.mark.timeout(5400)]

SOAK = bool(os.environ.get("GAVEL_SOAK"))
SECONDS = 3600 if SOAK else 10


def program(variable: str) -> str:
    """The path in an environment variable; skips the test without it."""
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} does not say where that suite is")
    assert Path(path).exists(), f"{variable} names {path}, which does not exist"
    return path


@pytest.fixture
def pjdfstest() -> Path:
    if shutil.which("prove") is None:
        pytest.skip("prove (perl) is not installed")
    return Path(program("GAVEL_PJDFSTEST"))


@pytest.fixture
def fsx() -> str:
    return program("GAVEL_FSX")


@pytest.fixture
def fsstress() -> str:
    return program("GAVEL_FSSTRESS")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "mnt").mkdir()
    with Served(tmp_path / "mnt", tmp_path / "volume") as served:
        yield served


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Mounted]:
    """A mount under upkeep. In the end the volume is checked deeply."""
    mounted, ended, failed = Mounted(tmp_path, "24G", 60), threading.Event(), list[Exception]()

    def keep() -> None:
        try:
            upkeep(mounted, ended, Counter())
        except Exception as error:
            failed.append(error)

    beside = threading.Thread(target=keep)
    beside.start()
    try:
        yield mounted
    finally:
        ended.set()
        beside.join()
        mounted.unmount()
    assert not failed
    run_gavel("check", "--deep", str(mounted.volume))


def test_pjdfstest(pjdfstest: Path, served: Served) -> None:
    suite = pjdfstest.parent / "tests"
    (served.directory / "top").mkdir()
    run = subprocess.run(
        ["prove", "-r", str(suite)], cwd=served.directory / "top", capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:]
    print(run.stdout[-120:])
    assert served.stop() == 0
    run_gavel("check", "--deep", str(served.volume))


@pytest.mark.parametrize("extra", [[], ["-W"], ["-R", "-W"]], ids=["mmap", "no-mmap-writes", "no-mmap"])
def test_fsx(fsx: str, kept: Mounted, extra: list[str]) -> None:
    count = str(SECONDS * (2000 if SOAK else 500))
    run = subprocess.run(
        [fsx, "-N", count, "-S", "7", "-q", *extra, str(kept.directory / "file")],
        cwd=kept.volume.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:]


def test_fsstress(fsstress: str, kept: Mounted) -> None:
    (kept.directory / "top").mkdir()
    count = str(SECONDS * 200)
    run = subprocess.run(
        [fsstress, "-d", str(kept.directory / "top"), "-n", count, "-p", "4", "-s", "5"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
