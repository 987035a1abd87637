"""What could not be committed is on the disk, by path, and can be copied back."""

import json
from pathlib import Path

from gavel.cache.leased_view import LeasedView
from gavel.cache.lost import Lost, lost
from gavel.cache.remote import Remote
from gavel.filesystem import data, namespace, superblock
from gavel.filesystem.caller import Caller
from gavel.runtime.lost_work import LostWorks, found, restore
from tests.unit.cache.leases import Lab

CALLER = Caller(0, 0, 0o022)


def test_changes_are_told_by_path_with_their_bytes() -> None:
    lab = Lab(1)
    (one,) = lab.clients
    one.run(lambda tx: superblock.make_root(tx, CALLER))
    inner = one.run(lambda tx: namespace.mkdir(tx, 1, b"inner", 0o755, CALLER)[0])
    obj = one.run(lambda tx: namespace.create(tx, inner, b"file", 0o100644, CALLER)[0])
    one.run(lambda tx: data.write(tx, obj, 0, b"small"))
    one.run(lambda tx: data.write(tx, obj, 300_000, bytes(range(256)) * 8))
    told = {change.path: change for change in one.core.contents(one.core._view.dirty.records)}
    assert told["/inner/file"].size == 300_000 + 2048
    content = bytearray(told["/inner/file"].size)
    for offset, part in told["/inner/file"].data:
        content[offset : offset + len(part)] = part
    assert bytes(content) == b"small".ljust(300_000, b"\0") + bytes(range(256)) * 8
    assert "with file" in told["/inner"].what and "with inner" in told["/"].what


def test_what_is_not_known_here_is_left_out() -> None:
    remote = Remote(b"client-number-01")
    (change,) = lost(LeasedView(remote.state, remote.places), 0, {bytes.fromhex("0000010000000000000007" + "01"): None})
    assert change == Lost(7, "", ["removed"], 0, 0, [])


def test_it_is_saved_and_copied_back_beside_what_is_there(tmp_path: Path) -> None:
    works = LostWorks(tmp_path / "lost", lambda: 10**18)
    changes = [Lost(5, "/a/b", ["changed", "written"], 0o100644, 10, [(4, b"xyz")]), Lost(6, "", ["removed"], 0, 0, [])]
    first, second = (works.save("fenced", {}, changes) for _ in range(2))
    assert first != second
    (place, told), _ = found(tmp_path / "lost")
    assert told["why"] == "fenced" and told["when"] == "2001-09-09T01:46:40Z" and str(place) == first
    assert (place / "files" / told["changes"][0]["file"]).read_bytes() == b"\0\0\0\0xyz\0\0\0"
    assert json.loads((place / "changes.json").read_text())["changes"][1]["what"] == ["removed"]
    (tmp_path / "to/a").mkdir(parents=True)
    (tmp_path / "to/a/b").write_text("newer")
    (copy,) = restore(place, told, tmp_path / "to")
    assert copy.name == "b.1" and (tmp_path / "to/a/b").read_text() == "newer"


def test_who_cannot_save_says_so_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "lost").write_text("in the way")
    assert LostWorks(tmp_path / "lost").save("fenced", {}, []) == ""
