"""Standard suites on a real mount. They are not part of this repository: environment variables say where they are.

GAVEL_PJDFSTEST   the program, with its folder `tests` beside it (needs prove)
GAVEL_FSX         fsx
GAVEL_FSSTRESS    fsstress
GAVEL_SOAK        run the random ones for an hour each instead of seconds
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "mnt").mkdir()
    with Served(tmp_path / "mnt", tmp_path / "volume") as served:
        yield served


def checked(served: Served) -> None:
    """Unmount, and check the volume deeply."""
    assert served.stop() == 0
    import gavel

    with gavel.open(served.volume) as fs:
        assert list(fs.check(deep=True)) == []


def test_pjdfstest(served: Served) -> None:
    suite = Path(program("GAVEL_PJDFSTEST")).parent / "tests"
    if shutil.which("prove") is None:
        pytest.skip("prove (perl) is not installed")
    (served.directory / "top").mkdir()
    run = subprocess.run(
        ["prove", "-r", str(suite)], cwd=served.directory / "top", capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:]
    checked(served)


@pytest.mark.parametrize("extra", [[], ["-W"], ["-R", "-W"]], ids=["mmap", "no-mmap-writes", "no-mmap"])
def test_fsx(served: Served, extra: list[str]) -> None:
    fsx = program("GAVEL_FSX")
    count = str(SECONDS * (2000 if SOAK else 500))
    run = subprocess.run(
        [fsx, "-N", count, "-S", "7", "-q", *extra, str(served.directory / "file")],
        cwd=served.volume.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:]
    checked(served)


def test_fsstress(served: Served) -> None:
    fsstress = program("GAVEL_FSSTRESS")
    (served.directory / "top").mkdir()
    count = str(SECONDS * 200)
    run = subprocess.run(
        [fsstress, "-d", str(served.directory / "top"), "-n", count, "-p", "4", "-s", "5"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    checked(served)
