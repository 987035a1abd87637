"""The bytes of nodes and roots as docs/internals/trees.md has them, and as volumes in the world hold them."""

from pathlib import Path

import msgspec
import pytest

from gavel.btree.dues import NEVER, Due
from gavel.btree.frozen import TreeRoot
from gavel.btree.node import NODE_MAX, Node, decode, encode
from gavel.errors import Damaged
from gavel.history import horizon, roots
from gavel.history.past import past_key

DOCUMENT = (Path(__file__).parents[2] / "docs/internals/trees.md").read_text()

LEAF = "940092c4016bc4026b3292cf064429dd98cda800cf064429dd98cda90092c40176c400"
INNER = "940191c4026b3292cf064429dd98cda900cf064429dd98cda80092cf0000000200400004cf0000000200800004"
DATED = INNER.replace("94", "95", 1) + (
    "9294cf064429dd98cda900cf064429dd98cda800cf064429dd98cdaa000294cfffffffffffffffff000000"
)
ROOTS = "9501cf064429dd98cda9000095cf000000020040000401cf064429dd98cda9000203950000000000"
NEWER_ROOTS = (
    "9701cf064429dd98cda900cf064429dd98cda80095cf000000020040000401cf064429dd98cda9000203950000000000cd1388cd012c"
)
HORIZON = "92cf064429dd98cda90091cf064429dd98cda800"

TID = 0x064429DD98CDA800


def leaf() -> Node:
    return Node(0).fill([b"k", b"k2"], [TID, TID + 256], [b"v", b""], 0)


def inner() -> Node:
    children = [Node(0, 0x200400004), Node(0, 0x200800004)]
    return Node(1).fill([b"k2"], [TID + 256, TID], children, 0)


def test_the_bytes_of_a_leaf_stay_as_they_are() -> None:
    assert encode(leaf()).hex() == LEAF
    again = Node(0, 1)
    decode(again, bytes.fromhex(LEAF))
    assert (again.keys, again.tids, again.values) == (leaf().keys, leaf().tids, leaf().values)


def test_the_bytes_of_an_inner_node_stay_as_they_are() -> None:
    assert encode(inner()).hex() == INNER
    again = Node(1, 1)
    decode(again, bytes.fromhex(INNER))
    assert (again.keys, again.tids) == (inner().keys, inner().tids)
    assert [child.address for child in again.values] == [0x200400004, 0x200800004]


def test_the_bytes_of_an_inner_node_of_the_past_stay_as_they_are() -> None:
    node = inner()
    node.dues = [Due(TID + 256, TID, TID + 512, 2), Due(NEVER)]
    assert encode(node).hex() == DATED
    again = Node(1, 1)
    decode(again, bytes.fromhex(DATED))
    assert (again.keys, again.tids, again.dues) == (node.keys, node.tids, node.dues)
    decode(again, bytes.fromhex(INNER))
    assert again.dues is None, "of a format that had none"
    with pytest.raises(Damaged):
        decode(again, msgspec.msgpack.encode([1, [b"k2"], [TID, TID], [1, 2], [Due(NEVER)]]))


def test_the_bytes_of_roots_of_version_1_are_read() -> None:
    found = roots.decode(bytes.fromhex(ROOTS))
    assert (found.version, found.last_tid, found.horizon) == (1, TID + 256, 0)
    assert found.current == TreeRoot(0x200400004, 1, TID + 256, 2, 3)
    assert found.past == TreeRoot(0, 0, 0, 0, 0)
    assert (found.live_data, found.past_data) == (roots.UNKNOWN, roots.UNKNOWN)


def test_the_bytes_of_roots_stay_as_they_are() -> None:
    tree = TreeRoot(0x200400004, 1, TID + 256, 2, 3)
    found = roots.Roots(roots.VERSION, TID + 256, TID, tree, roots.NO_TREE, 5000, 300)
    assert roots.encode(found).hex() == NEWER_ROOTS
    assert roots.decode(bytes.fromhex(NEWER_ROOTS)) == found


def test_the_bytes_of_the_record_of_the_horizon_stay_as_they_are() -> None:
    assert horizon.horizon_key(0) == bytes.fromhex("0000 00 0000000000000000 08") + b"horizon\0"
    assert horizon.encode(horizon.Horizon(TID + 256, (TID,))).hex() == HORIZON
    assert horizon.decode(bytes.fromhex(HORIZON)) == horizon.Horizon(TID + 256, (TID,))


def test_an_empty_volume_has_no_roots() -> None:
    assert roots.decode(b"") == roots.Roots()


def test_a_past_key_is_the_key_and_its_delete_tid() -> None:
    assert past_key(b"key", TID) == b"key" + bytes.fromhex("064429dd98cda800")


def test_the_document_names_what_the_code_has() -> None:
    assert f"{NODE_MAX:,} bytes" in DOCUMENT
    assert "`[level, keys, tids, values]`" in DOCUMENT
    assert "`[level, keys, tids, values, dues]`" in DOCUMENT
    assert "`[" + ", ".join(Due.__struct_fields__) + "]`" in DOCUMENT
    assert len(msgspec.msgpack.decode(encode(leaf()))) == 4
    assert "[" + ", ".join(TreeRoot.__struct_fields__) + "]" in DOCUMENT
    written = "[version, " + ", ".join(roots.Roots.__struct_fields__[1:]) + "]"
    assert written in DOCUMENT
