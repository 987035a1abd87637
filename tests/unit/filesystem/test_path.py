import errno

import pytest

from gavel.filesystem import namespace, path, superblock
from gavel.filesystem.caller import Caller
from gavel.filesystem.rename import rename
from gavel.keys.records import ROOT_OBJECT
from tests.unit.filesystem.memory_history import MemoryHistory

ME = Caller(0, 0)


@pytest.fixture
def history() -> MemoryHistory:
    history = MemoryHistory()
    history.run(superblock.make_root, ME)
    a, _ = history.run(namespace.mkdir, ROOT_OBJECT, b"a", 0o755, ME)
    b, _ = history.run(namespace.mkdir, a, b"b", 0o755, ME)
    history.run(namespace.create, b, b"file", 0o100644, ME)
    return history


def resolve(history: MemoryHistory, text: bytes, start: int = ROOT_OBJECT, follow: bool = True) -> str | None:
    tx = history.begin()
    return path.path_of(tx, path.resolve(tx, start, text, follow)[0])


def fails(history: MemoryHistory, text: bytes) -> int | None:
    with pytest.raises(OSError) as caught:
        resolve(history, text)
    return caught.value.errno


def test_split() -> None:
    assert path.split(b"name") == (b"name", None)
    assert path.split(b"name@@-5m") == (b"name", b"-5m")
    assert path.split(b"@@0x12") == (b"", b"0x12")
    assert path.split(b"@@") == (b"", b"")
    assert path.split(b"a@@b@@now") == (b"a@@b", b"now")
    assert path.split(b"a@b") == (b"a@b", None)


def test_resolve(history: MemoryHistory) -> None:
    for text in (b"/a/b/file", b"a/b/file", b"a//b/./file", b"/a/../a/b/file", b"/../a/b/../b/file"):
        assert resolve(history, text) == "/a/b/file"
    assert resolve(history, b"/") == resolve(history, b"") == "/"
    start = path.resolve(history.begin(), ROOT_OBJECT, b"a")[0]
    assert resolve(history, b"b/", start) == "/a/b"
    assert resolve(history, b"", start) == "/a"
    assert resolve(history, b"/a/b", start) == "/a/b"


def test_symlinks(history: MemoryHistory) -> None:
    a = path.resolve(history.begin(), ROOT_OBJECT, b"a")[0]
    history.run(namespace.symlink, a, b"relative", b"b/file", ME)
    history.run(namespace.symlink, a, b"absolute", b"/a/b", ME)
    history.run(namespace.symlink, a, b"chain", b"../a/absolute", ME)
    history.run(namespace.symlink, a, b"gone", b"nothing", ME)
    assert resolve(history, b"a/relative") == "/a/b/file"
    assert resolve(history, b"a/relative", follow=False) == "/a/relative"
    assert resolve(history, b"a/chain/file", follow=False) == "/a/b/file"
    assert resolve(history, b"a/chain/", follow=False) == "/a/b"
    assert fails(history, b"a/gone") == errno.ENOENT
    assert fails(history, b"a/relative/") == errno.ENOTDIR


def test_at_most_forty_symlinks(history: MemoryHistory) -> None:
    history.run(namespace.symlink, ROOT_OBJECT, b"l0", b"a", ME)
    for number in range(1, 41):
        history.run(namespace.symlink, ROOT_OBJECT, b"l%d" % number, b"l%d" % (number - 1), ME)
    history.run(namespace.symlink, ROOT_OBJECT, b"self", b"self/x", ME)
    assert resolve(history, b"l39/b") == "/a/b"
    assert fails(history, b"l40") == errno.ELOOP
    assert fails(history, b"self") == errno.ELOOP


def test_what_does_not_resolve(history: MemoryHistory) -> None:
    assert fails(history, b"a/x") == errno.ENOENT
    assert fails(history, b"a/b/file/x") == errno.ENOTDIR
    assert fails(history, b"a/b/file/..") == errno.ENOTDIR
    assert fails(history, b"a/b/file/") == errno.ENOTDIR
    assert fails(history, b"a/" + b"x" * 256) == errno.ENAMETOOLONG
    with pytest.raises(OSError) as caught:
        path.resolve(history.begin(), 999, b"x")
    assert caught.value.errno == errno.ESTALE


def test_marks_are_part_of_names_here(history: MemoryHistory) -> None:
    history.run(namespace.create, ROOT_OBJECT, b"x@@-5m", 0o100644, ME)
    assert resolve(history, b"x@@-5m") == "/x@@-5m"
    assert fails(history, b"a@@-5m") == errno.ENOENT


def test_path_of(history: MemoryHistory) -> None:
    tx = history.begin()
    a, file = path.resolve(tx, ROOT_OBJECT, b"a")[0], path.resolve(tx, ROOT_OBJECT, b"a/b/file")[0]
    history.run(rename, a, b"b", ROOT_OBJECT, b"\xff")
    assert path.path_of(history.begin(), file) == "/\udcff/file"
    assert path.path_of(history.begin(history.created_tid), file) is None
    moved = path.resolve(history.begin(), ROOT_OBJECT, b"\xff")[0]
    history.run(namespace.unlink, moved, b"file")
    assert path.path_of(history.begin(), file) is None
    assert path.path_of(history.begin(), 999) is None


def test_path_of_a_name_among_others_of_its_hash(history: MemoryHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gavel.keys.records.name_hash", lambda _: 7)
    for name in (b"x", b"y", b"z"):
        history.run(namespace.create, ROOT_OBJECT, name, 0o100644, ME)
    for name in (b"x", b"y", b"z"):
        assert resolve(history, name) == "/" + name.decode()


def test_very_deep(history: MemoryHistory) -> None:
    here = ROOT_OBJECT
    for _ in range(3000):
        here, _ = history.run(namespace.mkdir, here, b"d", 0o755, ME)
    assert resolve(history, b"d/" * 3000) == "/d" * 3000
