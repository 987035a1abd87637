"""The command that shows what lies on a volume: header, log, map, trees, nodes, the versions of one record."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gavel.btree.frozen import TreeRoot
    from gavel.cli.raw import Raw
    from gavel.media.layout import Header
    from gavel.media.show import Damage

Row = dict[str, Any]


class What(StrEnum):
    """What there is to show."""

    HEADER = "header"
    LOG = "log"
    MAP = "map"
    TREE = "tree"
    NODE = "node"
    RECORD = "record"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(
    what: Annotated[What, typer.Argument(help="header, log, map, tree, node or record.")],
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help="The volume's first file or device.")],
    item: Annotated[
        str | None,
        typer.Argument(
            help="tree: current (the default) or past. node: an address. record: a path in the volume, or a key in hex."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Show no more rows than this.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="The key file of an encrypted volume.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what lies on a volume, as far as it verifies. Needs no sound volume; exit code 5 when damage was met."""
    from gavel.cli import output
    from gavel.cli.raw import opened

    with opened(str(volume), key_file) as raw:
        rows = list(islice(_rows(what, raw, item), limit))
    if json:
        output.print_json({"what": what.value, "rows": rows})
    else:
        for row in rows:
            output.say("  ".join(f"{name}={_cell(value)}" for name, value in row.items() if value not in (None, "")))
    if any("damage" in row for row in rows):
        raise typer.Exit(output.DAMAGED)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{name}={_cell(inner)}" for name, inner in value.items()) + "}"
    return str(value)


def _rows(what: What, raw: Raw, item: str | None) -> Iterator[Row]:
    from gavel.errors import Damaged, NotAVolume
    from gavel.media import show as media

    if what is What.HEADER:
        if isinstance(raw.problem, NotAVolume):
            raise raw.problem  # not one slot looks like a header
        for row in media.headers(raw.device):
            yield _header(row) if isinstance(row, media.HeaderRow) else _damage(row)
        return
    header = raw.header
    if header is None:
        raise Damaged("every copy of the volume header", 0)
    if what is What.LOG:
        yield from _log(raw, header)
    elif what is What.MAP:
        for block in media.big_blocks(raw.device, header, raw.cipher):
            yield _damage(block) if isinstance(block, media.Damage) else block._asdict()
    elif what is What.TREE:
        yield from _tree(raw, header, item or "current")
    elif what is What.NODE:
        yield from _node(raw, header, item)
    else:
        yield from _record(raw, header, item)


def _damage(row: Damage) -> Row:
    return {"damage": row.what, "offset": row.offset, "text": row.text}


def _header(row: Any) -> Row:
    told: Row = {"slot": row.slot, "offset": row.offset, "state": row.state}
    if row.header is None:
        return told
    fields = row.header._asdict()
    for name in ("identity", "roots", "lock", "members"):
        fields[name] = fields[name].hex()
    for name in ("created_tid", "last_tid", "salt"):
        fields[name] = f"0x{fields[name]:016x}"
    told.update(fields)
    return told


def _log(raw: Raw, header: Header) -> Iterator[Row]:
    from gavel.errors import Damaged
    from gavel.media.show import Damage, frames
    from gavel.replica.journal import COMMIT, PART, QUORUM, STAGED, read_frame

    names = {COMMIT: "commit", PART: "part", QUORUM: "quorum", STAGED: "staged"}
    for row in frames(raw.device, header, raw.cipher):
        if isinstance(row, Damage):
            yield _damage(row)
            continue
        told: Row = row._asdict()
        body = told.pop("body")
        told["name"] = names.get(row.kind, row.name)
        if row.kind in (COMMIT, PART):
            try:
                tid, keys, _ = read_frame(row.sequence, body)
                told |= {"tid": f"0x{tid:016x}", "records": len(keys)}
            except Damaged as error:
                told["damage"] = error.fact
        elif row.kind in names:
            told["bytes"] = len(body)
        elif row.kind != 0xF0:
            told["value"] = int.from_bytes(body, "little")
        yield told


def _roots(raw: Raw, header: Header) -> tuple[TreeRoot, TreeRoot]:
    from gavel.history import roots
    from gavel.media.layout import HEADER_MAGIC

    text = header.roots
    if raw.cipher is not None and text:
        text = raw.cipher.open("roots in the volume header", HEADER_MAGIC, 0, header.generation, text)
    found = roots.decode(text)
    return found.current, found.past


def _tree(raw: Raw, header: Header, name: str) -> Iterator[Row]:
    from gavel.errors import BadRequest
    from gavel.history import show as history
    from gavel.media.show import Damage, node_payload

    if name not in ("current", "past"):
        raise BadRequest(f"there is no tree {name!r}; write `current` or `past`")
    root = _roots(raw, header)[name == "past"]
    for node in history.nodes(lambda address: node_payload(raw.device, header, address, raw.cipher), root):
        yield _damage(node) if isinstance(node, Damage) else _node_row(history.row_of(node))


def _node_row(row: Any) -> Row:
    return {
        **row._asdict(),
        "address": f"0x{row.address:x}",
        "first": row.first.hex(),
        "last": row.last.hex(),
        "tid": f"0x{row.tid:016x}",
    }


def _node(raw: Raw, header: Header, item: str | None) -> Iterator[Row]:
    from gavel.errors import BadRequest
    from gavel.filesystem.describe import describe_key, describe_value
    from gavel.history import show as history
    from gavel.media.show import Damage, node_payload

    try:
        address = int(item or "", 0)
    except ValueError:
        raise BadRequest("which node? give its address, as `gavel show tree` shows it") from None
    node = history.node_at(lambda wanted: node_payload(raw.device, header, wanted, raw.cipher), address)
    if isinstance(node, Damage):
        yield _damage(node)
        return
    yield _node_row(history.row_of(node))
    if node.level:
        for separator, tid, child in zip([b"", *node.keys], node.tids, node.values, strict=True):
            yield {"from": separator.hex(), "tid": f"0x{tid:016x}", "child": f"0x{child.address:x}"}
        return
    for key, tid, value in zip(node.keys, node.tids, node.values, strict=True):
        yield {"tid": f"0x{tid:016x}", **describe_key(key), "value": describe_value(key, value)}


def _record(raw: Raw, header: Header, item: str | None) -> Iterator[Row]:
    from gavel.filesystem.describe import describe_key, describe_value
    from gavel.history import show as history
    from gavel.media.show import Damage, node_payload

    key = _key(raw, header, item or "/")
    current, past = _roots(raw, header)
    yield describe_key(key)
    trees = history.versions(
        lambda address: node_payload(raw.device, header, address, raw.cipher), current, past, key
    )  # fmt: skip
    for row in trees:
        if isinstance(row, Damage):
            yield _damage(row)
            continue
        until = None if row.delete_tid is None else f"0x{row.delete_tid:016x}"
        yield {"in": "tree", "tid": f"0x{row.create_tid:016x}", "until": until, "value": describe_value(key, row.value)}
    for tid, value in _logged(raw, header, key):
        told = "deleted" if value is None else describe_value(key, value)
        yield {"in": "log", "tid": f"0x{tid:016x}", "value": told}


def _logged(raw: Raw, header: Header, key: bytes) -> Iterator[tuple[int, bytes | None]]:
    """What the log since the checkpoint says of a key."""
    from gavel.errors import Damaged
    from gavel.media.show import Damage, frames
    from gavel.replica.journal import COMMIT, PART, read_frame

    for row in frames(raw.device, header, raw.cipher):
        if isinstance(row, Damage) or row.kind not in (COMMIT, PART):
            continue
        try:
            tid, keys, values = read_frame(row.sequence, row.body)
        except Damaged:
            continue
        if key in keys:
            yield tid, values[keys.index(key)]


def _key(raw: Raw, header: Header, item: str) -> bytes:
    """The key that is meant: in hex, or that of the inode at a path."""
    from gavel.errors import BadRequest

    if not item.startswith("/"):
        try:
            return bytes.fromhex(item)
        except ValueError:
            raise BadRequest(f"{item!r} is neither a path from / nor a key in hex") from None
    from gavel.filesystem import path
    from gavel.keys import records
    from gavel.transaction.transaction import Transaction

    tx = Transaction(_Tolerant(raw, _roots(raw, header), header), 0)
    try:
        obj, _ = path.resolve(tx, records.ROOT_OBJECT, item.encode(errors="surrogateescape"), follow=False)
    except OSError as problem:
        why = f"{problem.strerror} in the volume's present; give a record of the past by its key, see `gavel show node`"
        raise OSError(problem.errno, why, item) from None
    return records.inode(0, obj)


class _Tolerant:
    """Single records of the trees and of the log since, for looking up a path; what is damaged is not there."""

    def __init__(self, raw: Raw, roots: tuple[TreeRoot, TreeRoot], header: Header) -> None:
        self._raw, self._roots, self._header = raw, roots, header

    def get(self, key: bytes) -> bytes | None:
        from gavel.history import show as history
        from gavel.media.show import Damage, node_payload

        raw, header = self._raw, self._header
        found: bytes | None = None
        for row in history.versions(
            lambda address: node_payload(raw.device, header, address, raw.cipher), *self._roots, key
        ):
            if not isinstance(row, Damage) and row.delete_tid is None:
                found = row.value
        for _, value in _logged(raw, header, key):
            found = value
        return found

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())

    def load(self, extent: object) -> Any:
        raise AssertionError("a path needs no file data")

    def stage(self, data: object, codec: int = 0) -> Any:
        raise AssertionError("nothing is written here")

    def share(self, extent: object) -> Any:
        raise AssertionError("nothing is written here")
