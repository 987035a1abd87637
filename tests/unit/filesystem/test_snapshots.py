import pytest

from gavel.errors import BadRequest
from gavel.filesystem import snapshots
from gavel.limits import NAME_MAX, NOTE_MAX
from tests.unit.filesystem.memory_history import MemoryHistory


@pytest.fixture
def history() -> MemoryHistory:
    return MemoryHistory()


def test_create_find_list_delete(history: MemoryHistory) -> None:
    history.run(snapshots.create, "later", 2000)
    made = history.run(snapshots.create, "früher", 1000, "before the great\ncleanup")
    assert made == snapshots.Snapshot("früher", 1000, history.micros * 1000, "before the great\ncleanup")
    tx = history.begin()
    assert snapshots.find(tx, "früher") == made
    assert [one.name for one in snapshots.listing(tx)] == ["früher", "later"]
    assert history.run(snapshots.delete, "früher") == made
    assert snapshots.find(history.begin(), "früher") is None
    assert [one.name for one in snapshots.listing(history.begin())] == ["later"]


@pytest.mark.parametrize("name", ["x" * (NAME_MAX + 1), "é" * NAME_MAX])
def test_names_that_are_too_long(history: MemoryHistory, name: str) -> None:
    test_names_that_cannot_be(history, name)


def test_the_same_name_again(history: MemoryHistory) -> None:
    history.run(snapshots.create, "a", 1000)
    with pytest.raises(BadRequest, match="there is a snapshot 'a' already"):
        history.run(snapshots.create, "a", 2000)
    with pytest.raises(BadRequest, match="there is no snapshot 'b'"):
        history.run(snapshots.delete, "b")


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "a\0b", "a@@b", "@b", "now", "-5m", "-x", "2026", "2026-99", "20261122", "0x12", "a\nb", "\ud800"],
)
def test_names_that_cannot_be(history: MemoryHistory, name: str) -> None:
    with pytest.raises(BadRequest):
        history.run(snapshots.create, name, 1000)
    assert snapshots.find(history.begin(), name) is None


@pytest.mark.parametrize("name", ["a", "v1.0", "0xmas", "1.0", "before cleanup", "a@b", "x" * NAME_MAX, "日曜"])
def test_names_that_can(history: MemoryHistory, name: str) -> None:
    history.run(snapshots.create, name, 1000)
    assert snapshots.listing(history.begin())[0].name == name


def test_notes_have_a_bound(history: MemoryHistory) -> None:
    with pytest.raises(BadRequest, match="note is longer"):
        history.run(snapshots.create, "a", 1000, "x" * (NOTE_MAX + 1))
    assert history.run(snapshots.create, "a", 1000, "odd \ud800").note == "odd ?"
