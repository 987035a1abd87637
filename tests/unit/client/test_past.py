"""As-of views, history, log, diff, undo, snapshots, through the Python API."""

import errno
import time

import pytest

from gavel.client.fs import Fs
from gavel.client.results import Progress
from gavel.errors import BadRequest, BadWhen, Damaged
from gavel.keys import tid as tids
from gavel.sim.device import SimDevice
from tests.contracts.api import opened


def test_every_state_with_a_tid_stays_readable(fs: Fs) -> None:
    states = []
    for number in range(5):
        fs.write_text("a", str(number))
        states.append(fs.tid())
    fs.remove("a")
    for number, tid in enumerate(states):
        with fs.as_of(tid) as then:
            assert then.tid == tid
            assert then.read_text("a") == str(number)
        assert fs.as_of(tids.text(tid)).read_text("a") == str(number)
        assert fs.read_text(f"a@@0x{tid:016x}") == fs.read_text(f"@@0x{tid:016x}/a") == str(number)


def test_a_view_offers_no_writing_calls(fs: Fs) -> None:
    view = fs.as_of(fs.tid())
    assert not hasattr(view, "write_bytes")
    assert not hasattr(view, "remove")


def test_marks_in_any_component(fs: Fs) -> None:
    fs.makedirs("a/b")
    fs.write_text("a/b/f", "old")
    fs.symlink("f", "a/b/s")
    tid = f"0x{fs.tid():016x}"
    fs.write_text("a/b/f", "new")
    fs.rename("a/b", "a/c")
    assert fs.read_text(f"a@@{tid}/b/f") == fs.read_text(f"a/b@@{tid}/f") == fs.read_text(f"a/@@{tid}/b/f") == "old"
    assert fs.read_text(f"a/c/f@@{tid}") == "old"
    assert fs.read_text(f"a/b@@{tid}/s") == "old"
    assert fs.listdir(f"a@@{tid}") == ["b"]
    assert fs.read_text(f"a@@{tid}/b/f@@") == "new"
    assert list(fs.walk(f"/a@@{tid}")) == [(f"/a@@{tid}", ["b"], []), (f"/a@@{tid}/b", [], ["f", "s"])]
    with pytest.raises(FileNotFoundError):
        fs.read_text(f"a/none@@{tid}")
    with pytest.raises(BadWhen):
        fs.stat("a@@gibberish")
    assert not fs.exists(f"a@@{tid}/none")


def test_a_name_that_really_has_a_mark_wins(fs: Fs) -> None:
    fs.write_text("a@@-5m", "literal")
    fs.makedirs("d@@x/e")
    fs.write_text("d@@x/e/f@@y", "deep")
    assert fs.read_text("a@@-5m") == "literal"
    assert fs.read_text("d@@x/e/f@@y") == "deep"
    tid = fs.tid()
    fs.rmtree("d@@x")
    assert fs.read_text(f"@@0x{tid:x}/d@@x/e/f@@y") == "deep"


def test_the_past_takes_no_writes(fs: Fs) -> None:
    fs.mkdir("d")
    fs.write_text("d/f", "x")
    path = f"d@@0x{fs.tid():x}/f"
    for call in (
        lambda: fs.write_bytes(path, b""),
        lambda: fs.remove(path),
        lambda: fs.rename(path, "g"),
        lambda: fs.truncate(path, 0),
        lambda: fs.mkdir(path + "2"),
        lambda: fs.chmod(path, 0),
    ):
        with pytest.raises(OSError) as info:
            call()
        assert info.value.errno == errno.EROFS
    assert fs.read_text("d/f") == "x"


def test_times_that_are_none(fs: Fs) -> None:
    last = fs.tid()
    for when in (last + 1, "9999-01-01", "1971", "nonsense", "-100000w", -1, "0x1"):
        with pytest.raises(BadWhen):
            fs.as_of(when)
    assert fs.as_of("now").tid == last


def test_history_of_a_file_also_when_it_is_gone(fs: Fs) -> None:
    fs.write_text("a", "one")
    first = fs.tid()
    fs.write_text("a", "three")
    fs.tid()
    fs.rename("a", "b")
    fs.tid()
    fs.remove("b")
    last = fs.tid()
    versions = fs.history("b")
    assert [version.what for version in versions] == [("created",), ("written",), ("renamed",), ("deleted",)]
    assert [version.size for version in versions] == [3, 5, 5, 5]
    assert (versions[0].tid, versions[-1].tid) == (first, last)
    assert fs.history(f"b@@0x{first:x}") == versions
    with pytest.raises(FileNotFoundError) as info:
        fs.history("/never")
    assert info.value.filename == "/never"


def test_log_of_a_tree(fs: Fs) -> None:
    fs.makedirs("t/u")
    fs.write_text("other", "x")
    first = fs.tid()
    fs.write_text("t/u/f", "x")
    second = fs.tid()
    fs.write_text("other", "y")
    fs.tid()
    fs.remove("t/u/f")
    third = fs.tid()
    entries = list(fs.log("t"))
    assert [entry.tid for entry in entries] == [third, second, first]
    assert [(event.path, event.what) for event in entries[0].events] == [("/t/u/f", ("deleted",))]
    assert [entry.tid for entry in fs.log("t", limit=1)] == [third]
    assert [entry.tid for entry in fs.log("t", since=first, until=second)] == [second]
    fs.rmtree("t")
    fs.tid()
    assert [entry.tid for entry in fs.log("t")][1:] == [third, second, first], "also of a tree that is gone"
    with pytest.raises(FileNotFoundError):
        list(fs.log("never"))


def test_diff_between_two_times(fs: Fs) -> None:
    fs.makedirs("t")
    fs.write_text("t/a", "1")
    fs.write_text("t/b", "1")
    first = fs.tid()
    fs.write_text("t/a", "22")
    fs.remove("t/b")
    fs.write_text("t/c", "1")
    second = fs.tid()
    fs.rename("t/c", "t/d")
    assert [(one.kind, one.path) for one in fs.diff("t", first, second)] == [
        ("changed", "a"),
        ("removed", "b"),
        ("added", "c"),
    ]
    assert [(one.kind, one.old_path, one.path) for one in fs.diff("t", second)] == [("renamed", "c", "d")]
    assert list(fs.diff("t", first, first)) == []
    with pytest.raises(FileNotFoundError):
        list(fs.diff("never", first))


def test_undo_and_its_undoing(fs: Fs) -> None:
    fs.makedirs("t")
    fs.write_text("t/a", "1")
    good = fs.tid()
    fs.write_text("t/a", "2")
    fs.rename("t", "u")
    fs.write_text("u/b", "new")
    bad = fs.tid()
    planned = fs.undo("/", good, dry_run=True)
    assert planned.actions and fs.exists("u/b")
    steps: list[Progress] = []
    done = fs.undo("/", good, progress=steps.append)
    assert done == planned
    assert steps[-1].done == steps[-1].total == len(done.actions)
    assert fs.listdir() == ["t"] and fs.listdir("t") == ["a"] and fs.read_text("t/a") == "1"
    assert fs.undo("/", good).actions == []
    fs.undo("/", bad)
    assert fs.listdir("u") == ["a", "b"] and fs.read_text("u/a") == "2"


def test_undo_of_a_deleted_file_without_a_time(fs: Fs) -> None:
    fs.write_text("a", "precious")
    fs.tid()
    fs.remove("a")
    fs.tid()
    fs.undo("a")
    assert fs.read_text("a") == "precious"


def test_undo_of_a_tree_whose_removal_took_several_transactions(fs: Fs) -> None:
    fs.makedirs("t/u")
    for number in range(10):
        fs.write_text(f"t/u/{number}", str(number))
    fs.write_text("t/old", "removed long before")
    fs.tid()
    fs.remove("t/old")
    fs.tid()
    fs.write_text("t/u/0", "changed")
    fs.tid()
    for path in fs.removing("t"):
        if path[-1] in "369":
            fs.tid()
    fs.tid()
    assert len(list(fs.log("t"))) > 5
    fs.undo("t")
    assert fs.listdir("t") == ["u"], "what went before the last other change stays gone"
    assert fs.listdir("t/u") == [str(number) for number in range(10)]
    assert fs.read_text("t/u/0") == "changed"
    fs.rename("t", "moved")
    fs.tid()
    fs.undo("t")
    assert fs.listdir() == ["t"], "a path that was taken away by a rename comes back by one"


def test_undo_takes_the_time_from_the_path(fs: Fs) -> None:
    fs.write_text("a", "1")
    first = fs.tid()
    fs.write_text("a", "2")
    fs.tid()
    fs.undo(f"a@@0x{first:x}")
    assert fs.read_text("a") == "1"
    with pytest.raises(BadRequest, match="already"):
        fs.undo(f"a@@0x{first:x}", to=first)
    with pytest.raises(FileNotFoundError):
        fs.undo("never")


def test_snapshots_are_names_for_times(fs: Fs) -> None:
    fs.write_text("a", "1")
    made = fs.snapshot_create("before-release", note="the note")
    fs.write_text("a", "2")
    later = fs.snapshot_create("after")
    fs.write_text("a", "3")
    assert fs.read_text("a@@before-release") == fs.as_of("before-release").read_text("a") == "1"
    assert fs.read_text("a@@after") == "2"
    assert [(one.name, one.note) for one in fs.snapshot_list()] == [("before-release", "the note"), ("after", "")]
    assert made.tid < later.tid
    fs.snapshot_create("again", when="before-release")
    assert fs.as_of("again").tid == made.tid
    with pytest.raises(BadRequest, match="already"):
        fs.snapshot_create("after")
    fs.snapshot_delete("before-release")
    with pytest.raises(BadWhen):
        fs.as_of("before-release")
    with pytest.raises(BadRequest):
        fs.snapshot_delete("before-release")
    assert fs.as_of(made.tid).read_text("a") == "1"


def test_a_moment_ago(fs: Fs) -> None:
    fs.write_text("a", "1")
    fs.sync()
    moment = time.time_ns() // 1000
    while time.time_ns() // 1000 <= moment:
        pass
    fs.write_text("a", "2")
    then = tids.end_of(moment)
    assert fs.as_of(min(then, fs.tid())).read_text("a") == "1"
    assert fs.read_text("a@@-0s") == "2"


def test_a_deep_check_finds_rot_in_the_present_and_in_the_past(fs: Fs, device: SimDevice) -> None:
    fs.write_bytes("old", b"o" * 100_000)
    fs.write_bytes("new", b"n" * 100_000)
    fs.sync()
    fs.remove("old")
    fs.sync()
    assert fs.check(deep=True) == []
    fs.close()
    for letter in (b"o", b"n"):
        device.rot(512 * next(number for number, data in device._sectors.items() if data == letter * 512))
    with opened(device) as again:
        assert again.check() == []
        found = {problem.where: problem for problem in again.check(deep=True)}
        assert any(where == "/new" for where in found), found
        assert any("before 0x" in where for where in found), found
        with pytest.raises(Damaged):
            again.read_bytes("new")
