"""Two clients of one cluster through the Python API: what is acknowledged to one is there for the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gavel.client.cluster import Cluster, Transaction
from gavel.errors import BadWhen, Collision
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
