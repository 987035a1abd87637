"""The big-block map: opening, releasing, counting, and its pages."""

from __future__ import annotations

from random import Random

import pytest

from gavel.errors import Damaged, VolumeFull
from gavel.limits import BIG_BLOCK
from gavel.media.blockmap import BlockMap
from gavel.media.layout import FREE, HEADER, LOG, PAGE_COLUMNS, PAGE_ENTRIES, TREE
from gavel.media.log import keeps


def test_the_lowest_free_big_block_is_opened_first() -> None:
    blockmap = BlockMap(10)
    blockmap.assign(0, HEADER)
    assert [blockmap.take(LOG, 0) for _ in range(4)] == [1, 2, 3, 4]
    blockmap.release(2)
    assert blockmap.free == 6
    assert [blockmap.take(TREE, 0) for _ in range(2)] == [2, 5]
    assert blockmap.generation[2] == 2
    assert list(blockmap.used()) == [0, 1, 2, 3, 4, 5]


def test_big_blocks_that_are_kept_are_not_given_out() -> None:
    blockmap = BlockMap(5)
    blockmap.assign(0, HEADER)
    for _ in range(2):
        blockmap.take(LOG, 2)
    with pytest.raises(VolumeFull) as caught:
        blockmap.take(LOG, 2)
    assert (caught.value.free, caught.value.wanted) == (2 * BIG_BLOCK, BIG_BLOCK)
    blockmap.take(LOG, 1)
    assert keeps(12) == (4, 2)


def test_our_own_mistakes_are_asserted() -> None:
    blockmap = BlockMap(5)
    block = blockmap.take(LOG, 0)
    blockmap.add(block, 100)
    for mistake in (
        lambda: blockmap.drop(block, 101),
        lambda: blockmap.release(block),
        lambda: blockmap.add(block + 1, 1),
        lambda: blockmap.release(block + 1),
    ):
        with pytest.raises(AssertionError):
            mistake()


def test_every_change_dirties_its_page() -> None:
    blockmap = BlockMap(3 * PAGE_ENTRIES)
    for change in (
        lambda: blockmap.assign(PAGE_ENTRIES, LOG),
        lambda: blockmap.add(PAGE_ENTRIES, 5),
        lambda: blockmap.drop(PAGE_ENTRIES, 1),
        lambda: blockmap.fill(PAGE_ENTRIES, 1000),
        lambda: blockmap.set_live(PAGE_ENTRIES, 0),
        lambda: blockmap.release(PAGE_ENTRIES),
    ):
        blockmap.dirty.clear()
        change()
        assert blockmap.dirty == {1}


def test_pages_come_back_as_they_were() -> None:
    random = Random(4)
    blockmap = BlockMap(2 * PAGE_ENTRIES + 17)
    for block in range(len(blockmap)):
        if random.random() < 0.6:
            blockmap.assign(block, random.choice([LOG, TREE]))
            blockmap.add(block, random.randrange(1 << 40))
            blockmap.fill(block, random.randrange(BIG_BLOCK + 1))
    again = BlockMap(len(blockmap))
    for index in range(3):
        again.decode_page(index, blockmap.encode_page(index), 0)
    assert (again.kinds, again.live, again.append) == (blockmap.kinds, blockmap.live, blockmap.append)
    assert (again.generation, again.free) == (blockmap.generation, blockmap.free)


@pytest.mark.parametrize(("column", "value"), [("kind", 6), ("append", BIG_BLOCK + 1), ("live", 1)])
def test_entries_that_cannot_be_are_damage(column: str, value: int) -> None:
    sizes = {"Q": 8, "I": 4, "B": 1}
    at = 0
    for name, code in PAGE_COLUMNS:
        if name == column:
            break
        at += PAGE_ENTRIES * sizes[code]
    page = bytearray(BlockMap(7).encode_page(0))
    page[at + 2 * sizes[code] : at + 3 * sizes[code]] = value.to_bytes(sizes[code], "little")
    with pytest.raises(Damaged):
        BlockMap(7).decode_page(0, bytes(page), 0)


def test_a_copy_is_independent() -> None:
    blockmap = BlockMap(5)
    blockmap.take(LOG, 0)
    copy = blockmap.copy()
    blockmap.add(0, 7)
    blockmap.take(LOG, 0)
    assert copy.live[0] == 0 and copy.kinds[1] == FREE and copy.free == 4
