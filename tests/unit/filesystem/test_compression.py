"""The choice to compress: inherited when something is made, told to the stage, undone like everything else."""

import errno

import pytest

from gavel.filesystem import compression, data, namespace
from gavel.filesystem import inode as inodes
from gavel.filesystem.caller import Caller
from gavel.keys.records import ROOT_OBJECT
from gavel.media.extents import RAW, ZSTD
from gavel.transaction.transaction import Transaction
from tests.crash.simulated import System, fresh

WHO = Caller(0, 0)
TEXT = b"the same words again and again, " * 2000


def choose(system: System, obj: int, choice: str) -> None:
    system.engine.write(compression.set_compression, obj, choice)


def made(system: System, parent: int, name: bytes, content: bytes = TEXT) -> int:
    def make(tx: Transaction) -> int:
        obj, _ = namespace.create(tx, parent, name, 0o644, WHO)
        data.write(tx, obj, 0, content)
        return obj

    return system.engine.write(make)


def choice(system: System, obj: int) -> str:
    return compression.choice(system.engine.read(inodes.read, obj))


def test_what_is_made_inherits_and_what_was_made_stays() -> None:
    system = fresh()
    before, _ = system.engine.write(namespace.mkdir, ROOT_OBJECT, b"before", 0o755, WHO)
    choose(system, ROOT_OBJECT, "on")
    after, _ = system.engine.write(namespace.mkdir, ROOT_OBJECT, b"after", 0o755, WHO)
    nameless, _ = system.engine.write(namespace.tmpfile, after, 0o644, WHO)
    assert [choice(system, obj) for obj in (before, after, made(system, after, b"f"), nameless)] == [
        "default", "on", "on", "on",
    ]  # fmt: skip
    choose(system, after, "off")
    inner, _ = system.engine.write(namespace.mkdir, after, b"inner", 0o755, WHO)
    assert choice(system, inner) == "off"
    choose(system, inner, "inherit")
    assert choice(system, inner) == "off"
    choose(system, after, "inherit")
    assert choice(system, after) == "on"
    choose(system, ROOT_OBJECT, "inherit")
    assert choice(system, ROOT_OBJECT) == "default"


def test_only_files_and_directories_and_known_choices() -> None:
    system = fresh()
    link, _ = system.engine.write(namespace.symlink, ROOT_OBJECT, b"l", b"to", WHO)
    for obj, wanted in ((link, "on"), (ROOT_OBJECT, "perhaps")):
        with pytest.raises(OSError) as caught:
            choose(system, obj, wanted)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(("wanted", "codec"), [("on", ZSTD), ("off", RAW)])
def test_data_is_stored_as_chosen_and_read_the_same(wanted: str, codec: int) -> None:
    system = fresh()
    choose(system, ROOT_OBJECT, wanted)
    obj = made(system, ROOT_OBJECT, b"f")
    staged = system.engine.read(lambda tx: tx.stage(TEXT[::-1], compression.codec(inodes.read(tx, obj))))
    assert staged.codec == codec and (staged.stored < staged.length) == (codec == ZSTD)
    system.engine.write(data.write, obj, 100, b"x" * 5000)
    system.checkpoint()
    again = b"".join(map(bytes, system.engine.read(data.read, obj, 0, 1 << 20)))
    assert again == TEXT[:100] + b"x" * 5000 + TEXT[5100:]
    assert [problem for problem in system.engine.history.check(deep=True) if problem] == []


def test_space_is_saved() -> None:
    def used(wanted: str) -> int:
        system = fresh()
        choose(system, ROOT_OBJECT, wanted)
        for n in range(4):
            made(system, ROOT_OBJECT, b"f%d" % n, b"%d" % n + TEXT)
        system.checkpoint()
        return system.engine.space().data

    assert used("on") < used("off") // 8
