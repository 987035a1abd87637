"""The tables of docs/internals/volume-format.md are those of media/layout.py."""

from __future__ import annotations

import re
from pathlib import Path
from struct import Struct, calcsize

from gavel.limits import BIG_BLOCK, EXTENT_MAX, FRAME_MAX
from gavel.media import cipher, layout
from gavel.media.log import keeps

DOCUMENT = (Path(__file__).parents[2] / "docs/internals/volume-format.md").read_text()


def table(name: str) -> list[list[str]]:
    """The cells of the rows of the table that follows a `<!-- table: name -->`."""
    after = DOCUMENT.split(f"<!-- table: {name} -->", 1)[1].lstrip("\n")
    rows = after.split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def fields(name: str) -> list[tuple[int, int, str]]:
    return [(int(offset), int(size), field) for offset, size, field, *_ in table(name)]


def laid_out(struct: Struct, names: list[str] | tuple[str, ...], base: int = 0) -> list[tuple[int, int, str]]:
    """(offset, size, name) of the fields of a struct."""
    found, offset = [], base
    remaining = list(names)
    for count, code in re.findall(r"(\d*)([a-zA-Z])", struct.format):
        repeat = 1 if code in "sx" or not count else int(count)
        for _ in range(repeat):
            size = calcsize(f"<{count if code in 'sx' else ''}{code}")
            if code != "x":
                found.append((offset, size, remaining.pop(0)))
            offset += size
    assert not remaining and offset - base == struct.size
    return found


def test_the_header() -> None:
    expected = laid_out(layout.HEADER_ENVELOPE, ["magic", "version", "sum"])
    expected += laid_out(layout.HEADER_BODY, layout.HEADER_FIELDS, layout.HEADER_ENVELOPE.size)
    assert fields("header") == expected
    assert (layout.LABEL_AT, layout.ROOTS_AT, layout.LABEL_MAX, layout.ROOTS_MAX) == (144, 208, 64, 2048)
    assert [layout.slot_offset(slot) for slot in range(layout.SLOTS)] == [0, 2 << 20, 4 << 20, 6 << 20]
    assert layout.Header._fields == (*layout.HEADER_FIELDS[:-4], "label", "roots", "lock", "members", "version")
    assert (layout.LOCK_AT, layout.LOCK_MAX, layout.MEMBERS_AT, layout.MEMBERS_MAX) == (2304, 128, 2432, 1664)


def test_the_log_frame() -> None:
    expected = laid_out(layout.FRAME_HEAD, layout.FRAME_FIELDS)
    expected += laid_out(layout.FRAME_SUM, ["sum"], layout.FRAME_HEAD.size)
    assert fields("frame") == expected
    assert (layout.FRAME_SIZE, layout.DATA_AT, layout.LINK_SIZE, layout.BODY_MAX) == (48, 64, 56, (1 << 20) + 52)
    named = {int(kind): name for kind, name, _ in table("kinds") if name}
    assert named == {layout.DATA: "DATA", layout.LINK: "LINK", layout.MARK: "MARK"}
    assert table("kinds")[0][0] == f"0 to {layout.KIND_MAX}"


def test_the_lock_and_the_seal() -> None:
    assert fields("lock") == laid_out(cipher.LOCK, cipher.LOCK_FIELDS) and cipher.LOCK.size <= layout.LOCK_MAX
    assert fields("seal") == laid_out(layout.SEAL_HEAD, layout.SEAL_FIELDS) and layout.SEAL_SIZE == 36


def test_the_members() -> None:
    assert fields("member") == laid_out(layout.MEMBER_ENTRY, layout.MEMBER_FIELDS)
    expected = laid_out(layout.HEADER_ENVELOPE, ["magic", "version", "sum"])
    assert fields("name") == expected + laid_out(layout.NAME_BODY, layout.NAME_FIELDS, layout.HEADER_ENVELOPE.size)


def test_the_envelope_and_the_map() -> None:
    names = ["magic", "number", "stamp", "checkpoint", "sum"]
    assert fields("envelope") == laid_out(layout.NODE_HEAD, names)
    assert layout.NODE_HEAD.format == layout.PAGE_HEAD.format
    assert fields("root entry") == laid_out(layout.ROOT_ENTRY, layout.ROOT_ENTRY_FIELDS)
    columns, offset = [], layout.PAGE_HEAD.size
    for name, code in layout.PAGE_COLUMNS:
        columns.append((offset, calcsize(f"<{code}"), name))
        offset += layout.PAGE_ENTRIES * calcsize(f"<{code}")
    assert fields("page columns") == columns and offset <= layout.PAGE_SIZE
    assert (layout.PAGE_SIZE, layout.PAGE_ENTRIES, layout.SECTOR) == (16_384, 960, 4096)
    kinds = dict(enumerate(name.upper() for name in layout.KIND_NAMES[: layout.HELD]))
    assert "kind | " + ", ".join(f"{number} {name}" for number, name in kinds.items()) in DOCUMENT


def test_the_magics_and_numbers_in_the_prose() -> None:
    for magic in (
        layout.HEADER_MAGIC,
        layout.FRAME_MAGIC,
        layout.NODE_MAGIC,
        layout.ROOT_MAGIC,
        layout.PAGE_MAGIC,
        layout.MEMBER_MAGIC,
    ):
        assert f"`{magic.decode()}`" in DOCUMENT
    assert (BIG_BLOCK, layout.VERSION, FRAME_MAX) == (8_388_608, 3, 1 << 20)
    assert (layout.VOLUME_MAX, layout.NODE_MAX, layout.NODE_UNITS) == (4 << 50, 2 << 20, 18)
    assert [keeps(count) for count in (12, 640, 1 << 20)] == [(4, 2), (10, 5), (128, 64)]
    assert EXTENT_MAX <= FRAME_MAX
