"""The device seam: all that the volume asks of storage. The real one is in runtime, its simulated twin in sim.

What is assumed of a device: a sync that returned makes every write before it survive a crash; without one, any
written sector may be old, new or torn after a crash, in any order; a read returns what was last written or is found
out by a checksum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview


class Device(Protocol):
    """Storage of `size()` bytes, addressed by byte."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, zeros where nothing was ever written; raises DeviceFailed (also past the end)."""

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """Write the parts one after the other from `offset` on; they are not durable before sync().

        Raises DeviceFull (nothing is assumed to be written, try again later) and DeviceFailed (give up).
        """

    def sync(self) -> None:
        """Return when everything written before is on stable storage; raises DeviceFailed, after which all is lost."""

    def size(self) -> int:
        """Bytes that can be addressed."""

    def resize(self, size: int) -> None:
        """Make it this many bytes; raises DeviceFailed where that cannot be done."""


@runtime_checkable
class Sparse(Protocol):
    """What a device may be able to do besides: give back to the host the room of what is not needed any more."""

    def trim(self, offset: int, length: int) -> None:
        """The contents of this range do not matter any more; it is zeros or what it was. Never raises: it is a hint."""


@runtime_checkable
class Cached(Protocol):
    """A device that knows what the host has of it in memory."""

    def at_hand(self, offset: int, length: int) -> bool:
        """Whether reading this would not have to wait; False where that cannot be told."""


@runtime_checkable
class Descriptor(Protocol):
    """A device that is a file of the host's."""

    def fileno(self) -> int:
        """The open file, to be synced by somebody else; -1 where there is not just one."""
