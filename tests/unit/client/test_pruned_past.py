"""What looks back, after a prune of everything but snapshots: kept states serve as before, the rest is refused."""

from __future__ import annotations

from random import Random

import pytest

from gavel.client import upkeep
from gavel.client.fs import Fs, drive
from gavel.errors import HistoryPruned


@pytest.fixture
def pruned(fs: Fs) -> Fs:
    """A tree with many changes, two snapshots in between, and everything else pruned."""
    fs.makedirs("d/e")
    random = Random(5)
    for n in range(60):
        name = f"d/f{random.randrange(12)}"
        match random.randrange(5):
            case 0 if fs.exists(name):
                fs.remove(name)
            case 1 if fs.exists(name):
                fs.rename(name, f"d/e/g{n % 7}")
            case 2:
                fs.write_text(name, f"{n}\n" * 200)
            case _:
                fs.write_bytes(f"d/e/h{n % 5}", random.randbytes(2000))
        fs.tid()
        if n in (20, 40):
            fs.snapshot_create(f"s{n}")
    _remember(fs)
    drive(upkeep.prune(fs._present, b"", everything=True), None)
    return fs


STATES: dict[str, dict[str, bytes]] = {}


def content(tree: object) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for top, _, names in tree.walk("/"):  # type: ignore[attr-defined]
        for name in names:
            path = f"{top.rstrip('/')}/{name}"
            found[path] = tree.read_bytes(path)  # type: ignore[attr-defined]
    return found


def _remember(fs: Fs) -> None:
    STATES.clear()
    for name in ("s20", "s40"):
        STATES[name] = content(fs.as_of(name))
    STATES["now"] = content(fs)


def test_snapshots_show_what_they_showed(pruned: Fs) -> None:
    assert {name: content(pruned.as_of(name)) for name in ("s20", "s40")} == {
        name: STATES[name] for name in ("s20", "s40")
    }
    assert content(pruned) == STATES["now"]


def test_differences_between_kept_states_are_told(pruned: Fs) -> None:
    for old, new in (("s20", "s40"), ("s20", None), ("s40", None)):
        found = list(pruned.diff("/", old, new))
        told = {f"/{path}" for one in found for path in (one.path, one.old_path) if path is not None}
        before, after = STATES[old], STATES["now" if new is None else new]
        different = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        assert different <= told


def test_a_tree_goes_back_to_a_snapshot_and_forth_again(pruned: Fs) -> None:
    before = pruned.tid()
    pruned.undo("/d", "s20")
    assert content(pruned) == STATES["s20"]
    assert content(pruned.as_of(before)) == STATES["now"]
    pruned.undo("/d", before)
    assert content(pruned) == STATES["now"]
    assert pruned.check(deep=True) == []


def test_history_and_log_tell_what_is_left(pruned: Fs) -> None:
    for path in STATES["now"]:
        assert pruned.history(path)
    horizon = pruned.info().horizon
    assert all(one.tid > horizon for one in pruned.log("/"))
    assert list(pruned.log("/", since=horizon - 1)) == list(pruned.log("/")), "it goes back to the horizon"
    with pytest.raises(HistoryPruned):
        pruned.as_of(horizon - 1).listdir("d")
    pruned.write_text("d/new", "x")
    pruned.tid()
    assert any("/d/new" in [event.path for event in one.events] for one in pruned.log("/"))
