"""Long looks at the past, in slices."""

import threading
from collections.abc import Iterator

import pytest

from gavel.client import slices
from gavel.client.fs import Fs, drive
from gavel.client.results import Progress
from gavel.filesystem import undo
from gavel.filesystem.past import Past
from gavel.keys import records


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "gavel-past"]


def tree(fs: Fs) -> int:
    for number in range(50):
        fs.write_text(f"{number}", "x")
    first = fs.tid()
    for number in range(50):
        fs.remove(f"{number}")
    fs.sync()
    return first


def test_the_result_is_that_of_the_plain_function(fs: Fs) -> None:
    first = tree(fs)
    plain = undo.plan(fs._engine.history, b"/", first)
    steps: list[Progress] = []
    found = drive(slices.once(fs._engine, lambda past: undo.plan(past, b"/", first)), steps.append)
    assert found == plain
    assert len(steps) > 100, "one for each look at the history"
    assert workers() == []


def test_others_have_their_turn_between_slices(fs: Fs) -> None:
    first = tree(fs)
    wrote = 0
    for step in slices.in_slices(fs._engine, lambda past: iter([undo.plan(past, b"/", first)])):
        if isinstance(step, Progress) and wrote < 20:
            writer = threading.Thread(target=fs.write_text, args=(f"meanwhile {wrote}", "y"))
            writer.start()
            writer.join(30)
            assert not writer.is_alive()
            wrote += 1
    assert wrote == 20 and len(fs.listdir()) == 20
    assert fs.check(deep=True) == []


def test_items_come_while_the_work_goes_on(fs: Fs) -> None:
    tree(fs)
    whole = records.all_in(0, records.ENTRIES)

    def names(past: Past) -> Iterator[bytes]:
        for key, _ in past.scan_at(*whole, past.last_tid - (1 << 30)):
            yield key
        for change in past.changes(past.created_tid, past.last_tid, *whole):
            yield change.key

    found = [step for step in slices.in_slices(fs._engine, names) if not isinstance(step, Progress)]
    assert found == list(names(fs._engine.history)) and len(found) >= 50


def test_what_it_raises_comes_through(fs: Fs) -> None:
    def broken(past: Past) -> int:
        past.versions(b"x")
        raise ZeroDivisionError(past.horizon)

    with pytest.raises(ZeroDivisionError):
        list(slices.once(fs._engine, broken))
    assert workers() == []


def test_a_driver_that_gives_up_ends_the_thread(fs: Fs) -> None:
    tree(fs)
    ended = []

    def endless(past: Past) -> Iterator[int]:
        try:
            while True:
                past.get_at(b"x", past.last_tid)
                yield 1
        finally:
            ended.append(True)

    job = slices.in_slices(fs._engine, endless)
    assert next(job) is not None
    assert workers() == ["gavel-past"]
    job.close()
    assert workers() == [] and ended == [True]
    assert fs._engine.turn.acquire(blocking=False)
    fs._engine.turn.release()

    never_begun = slices.in_slices(fs._engine, endless)
    never_begun.close()
    assert workers() == []
