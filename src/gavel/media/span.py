"""Several devices as one: each keeps a range of one address space for ever.

Invariants: ranges do not overlap and lie on big-blocks; nothing that the volume writes or reads crosses from one
member to another, but it would be carried out; what no member holds cannot be read or written. With a single member
its own methods are called, so that one device pays nothing for what several need.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from gavel.errors import DeviceFailed
from gavel.limits import BIG_BLOCK
from gavel.media.device import Buffer, Cached, Descriptor, Device, Sparse


@runtime_checkable
class Closes(Protocol):
    """A device that holds something of the host's."""

    def close(self) -> None:
        """Give it back."""


class SpanDevice:
    """Members in order of their bases; begins with one, at 0."""

    read: Callable[[int, int], bytes]
    write: Callable[[int, Sequence[Buffer]], None]
    sync: Callable[[], None]

    def __init__(self, first: Device) -> None:
        self._bases = [0]
        self._members = [first]
        self._bind()

    def _bind(self) -> None:
        if len(self._members) == 1:
            (only,) = self._members
            self.read, self.write, self.sync = only.read, only.write, only.sync
        else:
            self.read, self.write, self.sync = self._read, self._write, self._sync

    def __str__(self) -> str:
        return str(self._members[0])

    def attach(self, base: int, device: Device) -> None:
        """A further member, from `base` on; nothing may lie there yet."""
        assert base % BIG_BLOCK == 0 and base > self._bases[-1], "a range that is taken"
        self._bases.append(base)
        self._members.append(device)
        self._bind()

    def detach(self, base: int) -> Device:
        """The member at `base`, which is one no longer."""
        assert base, "the first member holds the headers"
        index = self._bases.index(base)
        del self._bases[index]
        device = self._members.pop(index)
        self._bind()
        return device

    def member(self, base: int) -> Device:
        """The member at `base`."""
        return self._members[self._bases.index(base)]

    def close(self) -> None:
        """Close every member that can be closed."""
        for device in self._members:
            if isinstance(device, Closes):
                device.close()

    def fileno(self) -> int:
        """See media.device.Descriptor."""
        only = self._members[0]
        return only.fileno() if len(self._members) == 1 and isinstance(only, Descriptor) else -1

    def size(self) -> int:
        """See media.device: where the last member ends."""
        return self._end(len(self._members) - 1)

    def resize(self, size: int) -> None:
        """See media.device."""
        if len(self._members) > 1:
            raise DeviceFailed("resize", size, "one of several members keeps the size it has")
        self._members[0].resize(size)

    def trim(self, offset: int, length: int) -> None:
        """See media.device.Sparse; does nothing where the member cannot."""
        device, inner = self._locate("trim", offset, length)
        if isinstance(device, Sparse):
            device.trim(inner, length)

    def at_hand(self, offset: int, length: int) -> bool:
        """See media.device.Cached; False where the member cannot tell."""
        try:
            device, inner = self._locate("read", offset, length)
        except DeviceFailed:
            return False
        return isinstance(device, Cached) and device.at_hand(inner, length)

    def _end(self, index: int) -> int:
        end = self._bases[index] + self._members[index].size()
        return min(end, self._bases[index + 1]) if index + 1 < len(self._bases) else end

    def _locate(self, action: str, offset: int, length: int) -> tuple[Device, int]:
        index = bisect_right(self._bases, offset) - 1
        if offset < 0 or offset + length > self._end(index):
            raise DeviceFailed(action, offset, "no device of the volume holds this")
        return self._members[index], offset - self._bases[index]

    def _pieces(self, offset: int, length: int) -> list[tuple[int, int]]:
        """(offset, length) of what lies in one member each."""
        pieces = []
        while length:
            index = bisect_right(self._bases, offset)
            end = self._bases[index] if index < len(self._bases) else offset + length
            pieces.append((offset, min(length, end - offset)))
            length -= pieces[-1][1]
            offset = end
        return pieces

    def _read(self, offset: int, length: int) -> bytes:
        found = []
        for at, size in self._pieces(offset, length):
            device, inner = self._locate("read", at, size)
            found.append(device.read(inner, size))
        return found[0] if len(found) == 1 else b"".join(found)

    def _write(self, offset: int, parts: Sequence[Buffer]) -> None:
        pieces = self._pieces(offset, sum(map(len, parts)))
        if len(pieces) == 1:
            device, inner = self._locate("write", *pieces[0])
            device.write(inner, parts)
            return
        data = b"".join(parts)
        for at, size in pieces:
            device, inner = self._locate("write", at, size)
            device.write(inner, [data[at - offset : at - offset + size]])

    def _sync(self) -> None:
        for device in list(self._members):
            try:
                device.sync()
            except DeviceFailed:
                if device in self._members:  # else it was let go of meanwhile, and nothing of it is needed
                    raise
