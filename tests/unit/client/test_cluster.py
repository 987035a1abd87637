"""Two clients of one cluster through the Python API: what is acknowledged to one is there for the other."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gavel.cache.held_view import HeldView
from gavel.client.cluster import Cluster
from gavel.client.transactions import Transaction
from gavel.errors import BadWhen, Collision
from gavel.limits import WRITE_TOGETHER
from tests.unit.client.remotely import clusters


@pytest.fixture
def two() -> Iterator[tuple[Cluster, Cluster]]:
    with clusters(2) as (one, other):
        yield one, other


def test_what_one_wrote_the_other_reads(two: tuple[Cluster, Cluster]) -> None:
    one, other = two
    one.makedirs("a/b")
    content = os.urandom(700_000)
    one.write_bytes("a/b/file", content)
    assert other.read_bytes("a/b/file") == content and other.listdir("a") == ["b"]
    with other.open("a/b/file", "r+b") as file:
        file.seek(300_000)
        file.write(b"changed")
    assert one.read_bytes("a/b/file") == content[:300_000] + b"changed" + content[300_007:]


def test_what_is_written_through_a_buffer_is_gathered_into_few_transactions(two: tuple[Cluster, Cluster]) -> None:
    one, other = two
    content = os.urandom(100_000)
    before = one.tid()
    with one.open("file", "wb") as file:
        for _ in range(60):
            file.write(content)
    assert other.read_bytes("file") == content * 60
    commits = {change.tid for change in one.log("file", since=before)}
    assert len(commits) == 1 + -(-60 * len(content) // WRITE_TOGETHER), "one makes the file"


def test_the_past_has_tids_times_and_names(two: tuple[Cluster, Cluster]) -> None:
    one, other = two
    one.write_text("note", "first")
    before = one.tid()
    other.snapshot_create("kept", note="for later")
    other.write_text("note", "second")
    assert one.as_of(before).read_text("note") == "first" == one.read_text("note@@kept")
    assert [(found.name, found.note) for found in one.snapshot_list()] == [("kept", "for later")]
    assert one.as_of("kept").read_text("note") == "first" and one.read_text("note") == "second"
    for wrong in ("nonsense when", 1 << 63, -1):
        with pytest.raises(BadWhen):
            one.as_of(wrong)
    with pytest.raises(OSError, match="past"):
        one.write_text("note@@kept", "no")
    one.snapshot_delete("kept")
    assert other.snapshot_list() == []


def test_a_transaction_is_whole_and_sees_one_state(two: tuple[Cluster, Cluster]) -> None:
    one, other = two
    one.write_text("a", "1")
    one.mkdir("elsewhere")
    with one.transaction() as tx:
        tx.write_text("b", tx.read_text("a") + "+")
        tx.mkdir("d")
        other.write_text("elsewhere/c", "unrelated")
        assert not other.exists("b")
    assert other.read_text("b") == "1+" and other.is_dir("d") and tx.tid is not None
    tx = one.transaction()
    tx.write_bytes("never", os.urandom(300_000))
    tx.rollback()
    assert not other.exists("never")


def test_a_flush_that_fails_in_the_commit_gives_the_transaction_up(two: tuple[Cluster, Cluster]) -> None:
    """What was staged for it stayed for as long as the connection did."""
    one, other = two
    tx = one.transaction()
    tx.write_bytes("big", os.urandom(300_000))
    file = tx.open("far", "wb")
    file.seek((1 << 63) - 9)
    file.write(b"beyond the largest size, which nobody looks at before it is flushed")
    with pytest.raises(OSError) as caught, tx:
        assert not other.exists("big")
    assert caught.value.errno == errno.EFBIG
    assert one.tid() == other.tid()  # what the loop was told before is done
    assert isinstance(tx._inside.outer.view, HeldView) and tx._inside.outer.view.staged == []
    with pytest.raises(ValueError, match="over"):
        tx.exists("big")
    assert other.listdir("/") == []
    file.raw.close()  # type: ignore[union-attr]  # so that its end does not try to flush


def test_a_collision_names_the_path_and_nothing_has_happened(two: tuple[Cluster, Cluster]) -> None:
    one, other = two
    one.write_text("counter", "0")
    tx = one.transaction()
    tx.write_text("counter", tx.read_text("counter") + "1")
    other.write_text("counter", "changed")
    with pytest.raises(Collision) as caught:
        tx.commit()
    assert "/counter" in str(caught.value) and other.read_text("counter") == "changed"


def test_run_counts_every_increment_once(two: tuple[Cluster, Cluster]) -> None:
    two[0].write_text("n", "0")

    def increment(tx: Transaction) -> None:
        tx.write_text("n", str(int(tx.read_text("n")) + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: two[n % 2].run(increment, 1000), range(24)))
    assert two[0].read_text("n") == "24"


def test_a_closed_connection_says_so(two: tuple[Cluster, Cluster]) -> None:
    with two[0] as one:
        assert one.statvfs().f_blocks > 0
    assert one.closed
    one.close()
    with pytest.raises(ValueError, match="closed"):
        one.listdir("/")


def test_a_tree_is_looked_back_on_and_brought_back(two: tuple[Cluster, Cluster]) -> None:
    one, other = two
    content = os.urandom(400_000)
    one.makedirs("tree/inner")
    one.write_bytes("tree/inner/file", content)
    one.symlink("inner/file", "tree/link")
    good = one.tid()
    other.write_text("tree/inner/file", "overwritten")
    other.write_text("tree/new", "since")
    other.remove("tree/link")
    assert [(found.kind, found.path) for found in one.diff("tree", good)] == [
        (found.kind, found.path) for found in other.diff("tree", good)
    ]
    kinds = {found.path: found.kind for found in one.diff("tree", good)}
    assert kinds == {"new": "added", "link": "removed", "inner/file": "changed"}
    assert len(one.history("tree/inner/file")) >= 2
    assert [event.path for found in one.log("tree", since=good) for event in found.events].count("/tree/link") == 1
    assert one.undo("tree", good, dry_run=True).actions and one.exists("tree/new")
    one.undo("tree", good)
    assert other.read_bytes("tree/inner/file") == content == other.read_bytes("tree/link") and not other.exists(
        "tree/new"
    )
    assert list(one.diff("tree", good)) == []


def test_long_histories_come_in_pieces(two: tuple[Cluster, Cluster]) -> None:
    one, _ = two
    for n in range(8):
        one.write_text("often", str(n))
    assert len(one.history("often")) == 8 and len(list(one.log("often"))) >= 8
    one.undo("often", one.history("often")[2].tid)
    assert one.read_text("often") == "2"
