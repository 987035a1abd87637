"""Nodes as bytes, separators, splitting and joining."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gavel.btree.balance import emptied, join, split
from gavel.btree.node import NODE_MAX, Node, decode, encode, separator, size_of
from gavel.errors import Damaged


def leaf(sizes: list[int], hot: int = -1) -> Node:
    keys = [b"%06d" % number for number in range(len(sizes))]
    node = Node(0, 0, 1).fill(keys, [1 << 50] * len(sizes), [bytes(size) for size in sizes], 0)
    node.size, node.hot = size_of(node), hot
    return node


def inner(count: int) -> Node:
    keys = [b"%06d" % number for number in range(count - 1)]
    node = Node(1, 0, 1).fill(keys, [1 << 50] * count, [Node(0, (1 << 50) + n, 1) for n in range(count)], 0)
    node.size = size_of(node)
    return node


@pytest.mark.parametrize("node", [leaf([]), leaf([3, 0, 70_000]), inner(1), inner(7)])
def test_a_node_comes_back_from_its_bytes(node: Node) -> None:
    again = Node(node.level, 77)
    decode(again, encode(node))
    assert (again.keys, again.tids) == (node.keys, node.tids)
    if node.level:
        assert [child.address for child in again.values] == [child.address for child in node.values]
        assert {child.level for child in again.values} == {0}
        assert not any(child.loaded for child in again.values)
    else:
        assert again.values == node.values
    assert abs(again.size - node.size) <= 9 * (len(node.values) + 4)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00garbage",
        msgspec.msgpack.encode([1, [b"k"], [1], [b"v"]]),
        msgspec.msgpack.encode([0, [b"k"], [1, 2], [b"v"]]),
        msgspec.msgpack.encode([0, [b"k"], [1], []]),
        msgspec.msgpack.encode([0, [b"k"], ["1"], [b"v"]]),
        msgspec.msgpack.encode([0, ["text"], [1], [b"v"]]),
    ],
)
def test_bytes_that_are_no_leaf_are_damage_with_evidence(payload: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        decode(Node(0, 4711), payload)
    assert caught.value.offset == 4711


@pytest.mark.parametrize(
    ("left", "right", "between"),
    [
        (b"a", b"b", b"b"),
        (b"abc", b"abd", b"abd"),
        (b"ab", b"abc", b"abc"),
        (b"abc", b"b", b"b"),
        (b"", b"xyz", b"x"),
        (b"ab\0", b"ab\0\0", b"ab\0\0"),
    ],
)
def test_a_separator_is_short_and_separates(left: bytes, right: bytes, between: bytes) -> None:
    assert separator(left, right) == between
    assert left < between <= right


@pytest.mark.parametrize(
    "sizes",
    [
        [100] * 200,
        [0] * 3000,
        [100] * 2000,
        [60_000, 10],
        [10, 60_000],
        [10] * 50 + [60_000] + [10] * 50,
        [60_000] * 5,
        [9000, 9000],
    ],
)
@pytest.mark.parametrize("hot", [-1, 1, 100])
def test_split_pieces_fit_and_hold_everything(sizes: list[int], hot: int) -> None:
    node = leaf(sizes, hot)
    keys, values = node.keys.copy(), node.values.copy()
    separators, pieces = split(node)
    assert pieces[0] is node and len(pieces) == len(separators) + 1
    assert [key for piece in pieces for key in piece.keys] == keys
    assert [value for piece in pieces for value in piece.values] == values
    for piece in pieces:
        assert piece.keys and piece.size == size_of(piece)
        assert piece.size <= NODE_MAX or len(piece.keys) == 1
    for left, between, right in zip(pieces, separators, pieces[1:], strict=False):
        assert left.keys[-1] < between <= right.keys[0]


def test_a_sequence_leaves_packed_leaves_behind_and_others_room() -> None:
    packed = split(leaf([100] * 150, hot=150))[1]
    assert packed[0].size > NODE_MAX * 9 // 10
    assert packed[-1].hot == len(packed[-1].keys)
    even = split(leaf([100] * 150))[1]
    assert abs(even[0].size - even[1].size) < 300


def test_an_inner_node_splits_between_children() -> None:
    node = inner(2000)
    children, keys = node.values.copy(), node.keys.copy()
    separators, pieces = split(node)
    assert [child for piece in pieces for child in piece.values] == children
    rebuilt = pieces[0].keys.copy()
    for between, piece in zip(separators, pieces[1:], strict=True):
        rebuilt += [between, *piece.keys]
    assert rebuilt == keys
    assert all(piece.size == size_of(piece) <= NODE_MAX for piece in pieces)


def test_small_neighbours_join_and_large_ones_do_not() -> None:
    left, right = leaf([10] * 5), leaf([10] * 5)
    right.keys = [b"9" + key for key in right.keys]
    right.size = size_of(right)
    keys = left.keys + right.keys
    assert join(left, right, b"9")
    assert left.keys == keys and left.size == size_of(left) and not right.loaded
    assert not join(leaf([100] * 60), leaf([100] * 60), b"9")
    a, b = inner(3), inner(2)
    assert join(a, b, b"m")
    assert len(a.values) == 5 and len(a.keys) == 4 and a.size == size_of(a)


def test_emptied_looks_through_only_children() -> None:
    node = inner(1)
    assert not emptied(node)  # the child is not even in memory
    node.values = [leaf([])]
    assert emptied(node)
    node.values = [leaf([1])]
    assert not emptied(node)


@given(st.binary(max_size=300), st.integers(0, 2))
def test_any_bytes_are_a_node_or_damage(payload: bytes, level: int) -> None:
    node = Node(level, 4711)
    with suppress(Damaged):
        decode(node, payload)
    assert not node.loaded or len(node.keys) == len(node.values) - (1 if level else 0)


@given(st.integers(0, 60), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_a_node_or_damage(at: int, byte: int, of_leaf: bool) -> None:
    node = leaf([3, 20, 300]) if of_leaf else inner(4)
    payload = bytearray(encode(node))
    payload[at % len(payload)] = byte
    again = Node(node.level, 4711)
    try:
        decode(again, bytes(payload))
    except Damaged:
        return
    assert len(again.tids) == len(again.values)
