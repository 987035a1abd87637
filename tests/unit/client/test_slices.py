"""Long looks at the past let others have their turn."""

import itertools
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from gavel.client.fs import Fs
from gavel.client.results import Progress
from gavel.limits import SLICE_RECORDS

JOBS: dict[str, Callable[[Fs, int], Generator[Any, None, Any]]] = {
    "undo": lambda fs, first: fs.undo_job("/", first, True),
    "diff": lambda fs, first: fs.diff_job("/", first, None),
    "log": lambda fs, first: fs.log_job("/", None, None, None),
    "check": lambda fs, first: fs.check_job(True),
}


@pytest.mark.parametrize("job", JOBS)
def test_another_thread_writes_between_two_slices(fs: Fs, job: str) -> None:
    fs.makedirs("d")
    for number in range(2 * SLICE_RECORDS):
        fs.write_text(f"d/{number}", "x")
    first = fs.tid()
    for number in range(SLICE_RECORDS):
        fs.remove(f"d/{number}")
    fs.sync()
    pauses = 0
    for step in JOBS[job](fs, first):
        if isinstance(step, Progress) and pauses < 5:
            writer = threading.Thread(target=fs.write_text, args=(f"meanwhile {pauses}", "y"))
            writer.start()
            writer.join(30)
            assert not writer.is_alive()
            pauses += 1
    assert pauses > 0
    assert len(fs.listdir()) == 1 + pauses


def test_a_job_that_is_given_up_holds_nothing(fs: Fs) -> None:
    for number in range(SLICE_RECORDS):
        fs.write_text(f"{number}", "x")
    first = fs.tid()
    fs.rmtree("/")
    for start in JOBS.values():
        job = start(fs, first)
        list(itertools.islice(job, 2))
        job.close()
    fs.write_text("a", "x")
    assert fs.check(deep=True) == []


def test_a_job_is_stopped_when_whoever_looks_on_fails(fs: Fs) -> None:
    """It once went on until the garbage was collected, which then closed it from within one of its own steps."""
    fs.write_bytes("f", bytes(range(256)) * 4000)
    fs.sync()

    def fail(_: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fs.scrub(1, progress=fail)
    assert caught.tb is not None, "it keeps the frame of the generator alive"
    assert fs._engine.jobs.listed() == []
