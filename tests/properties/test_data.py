"""File data against a bytearray that knows its holes, at offsets around the borders of extents."""

from __future__ import annotations

import os
import stat

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gavel.filesystem import data, inode
from gavel.keys import records
from gavel.limits import EXTENT_MAX, INLINE_MAX
from gavel.media import extents
from tests.unit.filesystem.memory_history import MemoryHistory

FILES = (10, 11)
_BORDERS = (0, INLINE_MAX, 4096, EXTENT_MAX, 2 * EXTENT_MAX)
OFFSETS = st.builds(lambda border, by: max(0, border + by), st.sampled_from(_BORDERS), st.integers(-3, 300))
LENGTHS = st.one_of(st.integers(0, 5), st.integers(0, 2 * INLINE_MAX), OFFSETS)
WHICH = st.sampled_from([0, 1])


class Model:
    """A file: its bytes, and for each whether it was ever written since it was last a hole."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.real = bytearray()

    def resize(self, size: int) -> None:
        for part in (self.bytes, self.real):
            del part[size:]
            part.extend(bytes(size - len(part)))

    def set(self, offset: int, new: bytes, real: bytes) -> None:
        if new:
            self.resize(max(len(self.bytes), offset + len(new)))
            self.bytes[offset : offset + len(new)] = new
            self.real[offset : offset + len(new)] = real


class FileMachine(RuleBasedStateMachine):
    """Two files, so that copies have somewhere to go; every step is a transaction of its own or joins the last."""

    def __init__(self) -> None:
        super().__init__()
        self.history = MemoryHistory()
        self.tx = self.history.begin()
        for obj in FILES:
            new = inode.Inode(stat.S_IFREG | 0o644, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 9)
            self.tx.put(records.inode(0, obj), inode.encode(new))
        self.models = (Model(), Model())
        self.fill = 0

    @rule()
    def commit(self) -> None:
        self.history.micros += 1
        self.history.commit(self.tx)
        self.tx = self.history.begin()

    @rule(which=WHICH, offset=OFFSETS, length=LENGTHS)
    def write(self, which: int, offset: int, length: int) -> None:
        self.fill = self.fill % 255 + 1
        new = bytes([self.fill]) * length
        data.write(self.tx, FILES[which], offset, new)
        self.models[which].set(offset, new, b"\1" * length)

    @rule(which=WHICH, length=LENGTHS)
    def append(self, which: int, length: int) -> None:
        self.write(which, len(self.models[which].bytes), length)

    @rule(which=WHICH, size=OFFSETS)
    def truncate(self, which: int, size: int) -> None:
        data.truncate(self.tx, FILES[which], size)
        self.models[which].resize(size)

    @rule(which=WHICH, offset=OFFSETS, length=LENGTHS, zero=st.booleans(), keep=st.booleans())
    def clear(self, which: int, offset: int, length: int, zero: bool, keep: bool) -> None:
        length += 1
        model = self.models[which]
        mode = (data.ZERO_RANGE | (data.KEEP_SIZE if keep else 0)) if zero else data.PUNCH_HOLE | data.KEEP_SIZE
        data.fallocate(self.tx, FILES[which], mode, offset, length)
        if not mode & data.KEEP_SIZE:
            model.resize(max(len(model.bytes), offset + length))
        length = max(0, min(length, len(model.bytes) - offset))
        model.set(offset, bytes(length), bytes(length))

    @rule(src=WHICH, dst=WHICH, offset=OFFSETS, to=OFFSETS, length=LENGTHS)
    def copy(self, src: int, dst: int, offset: int, to: int, length: int) -> None:
        source = self.models[src]
        length = min(length, max(0, len(source.bytes) - offset))
        if src == dst and abs(offset - to) < length:
            return
        assert data.copy_range(self.tx, FILES[src], offset, FILES[dst], to, length) == length
        new, real = bytes(source.bytes[offset : offset + length]), bytes(source.real[offset : offset + length])
        self.models[dst].set(to, new, real)

    @rule(which=WHICH, offset=OFFSETS, length=LENGTHS)
    def read(self, which: int, offset: int, length: int) -> None:
        found = b"".join(data.read(self.tx, FILES[which], offset, length))
        assert found == self.models[which].bytes[offset : offset + length]

    @rule(which=WHICH, offset=OFFSETS, whence=st.sampled_from([data.SEEK_DATA, data.SEEK_HOLE]))
    def seek(self, which: int, offset: int, whence: int) -> None:
        real = self.models[which].real
        expected = None
        if offset < len(real):
            expected = real.find(1 if whence == data.SEEK_DATA else 0, offset)
            if expected < 0:
                expected = len(real) if whence == data.SEEK_HOLE else None
        try:
            found: int | None = data.seek(self.tx, FILES[which], offset, whence)
        except OSError:
            found = None
        assert found == expected

    @invariant()
    def records_are_right(self) -> None:
        for obj, model in zip(FILES, self.models, strict=True):
            value = self.tx.get(records.inode(0, obj))
            assert value is not None
            file = inode.decode(value)
            assert file.size == len(model.bytes)
            assert file.used == sum(model.real)
            before = 0
            for key, record in self.tx.scan(*records.extents(0, obj)):
                end = records.extent_end(key)
                size = extents.view_size(record)
                assert size > 0
                assert before <= end - size
                before = end
            assert before <= file.size

    def teardown(self) -> None:
        for obj, model in zip(FILES, self.models, strict=True):
            assert b"".join(data.read(self.tx, obj, 0, 1 << 30)) == model.bytes


TestFileData = FileMachine.TestCase
_SOAK = "GAVEL_SOAK" in os.environ
TestFileData.settings = settings(max_examples=2000 if _SOAK else 40, stateful_step_count=30, deadline=None)
