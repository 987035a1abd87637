"""What the kernel may believe still is found by range, and what it may not is forgotten."""

from gavel.coherency.space import EVERYTHING, lease_range
from gavel.filesystem.inode import Inode
from gavel.keys import records
from gavel.keys.ranges import just
from gavel.mount.replies import Replies
from gavel.mount.told import Told

SECOND = 10**9


def about(obj: int) -> tuple[bytes, bytes]:
    return lease_range(*just(records.inode(0, obj)))


def test_objects_and_names_are_found_where_they_lie() -> None:
    told = Told()
    told.add(0, SECOND, 7)
    told.add(0, SECOND, 1, b"name")
    assert told.within([about(7)], 0) == ([7], [])
    assert told.within([about(1)], 0) == ([1], [(1, b"name")])
    assert told.within([about(8)], 0) == ([], [])
    assert told.within([EVERYTHING], 0) == ([7, 1], [(1, b"name")])


def test_a_listing_tells_of_its_entries() -> None:
    inode = Inode(0o100644, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    replies = Replies(1)
    listing = b"".join(replies.entry_plus(obj, inode, obj, b"f%d" % obj, 8) for obj in (20, 21, 300))
    told = Told()
    told.add(0, SECOND, 9, listing=listing)
    assert told.within([about(21)], 0) == ([21], [])
    objects, names = told.within([about(9)], 0)
    assert objects == [9] and names == [(9, b"f20"), (9, b"f21"), (9, b"f300")]


def test_what_is_over_is_not_told_again_and_not_kept() -> None:
    told = Told()
    for moment in range(100):
        told.add(moment * SECOND, (moment + 2) * SECOND, moment + 1)
    assert len(told) <= 4
    assert told.within([EVERYTHING], 100 * SECOND)[0] == [99, 100]


def test_replies_may_be_believed_for_parts_of_a_second() -> None:
    replies = Replies(0)
    replies.believe(1_250_000_000)
    inode = Inode(0o100644, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    entry = replies.entry(5, inode)
    assert int.from_bytes(entry[16:24], "little") == 1 == int.from_bytes(entry[24:32], "little")
    assert int.from_bytes(entry[32:36], "little") == 250_000_000 == int.from_bytes(entry[36:40], "little")
    assert replies.no_name[16:24] == entry[16:24] and replies.no_name[32:36] == entry[32:36]
    replies.believe(0)
    assert not any(replies.entry(5, inode)[16:40])
