"""All disks of a machine, and those of them that are the volume. A power cut hits all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from gavel.limits import BIG_BLOCK
from gavel.media.members import check_name, unpack_table
from gavel.media.recovery import newest_header
from gavel.media.span import SpanDevice
from gavel.sim.device import Faults, SimDevice

MEMBER = 5 * BIG_BLOCK
Hook = Callable[[Any], None] | None


class Disks(SpanDevice):
    """Behaves to a test like one SimDevice."""

    def __init__(self, first: SimDevice) -> None:
        super().__init__(first)
        self.world: dict[str, SimDevice] = {"": first}
        self.faults: Faults = first.faults
        self._hooks: tuple[Hook, Hook] = None, None

    @property
    def on_write(self) -> Hook:
        return self._hooks[0]

    @on_write.setter
    def on_write(self, hook: Hook) -> None:
        self._hook(hook, self._hooks[1])

    @property
    def on_sync(self) -> Hook:
        return self._hooks[1]

    @on_sync.setter
    def on_sync(self, hook: Hook) -> None:
        self._hook(self._hooks[0], hook)

    def _hook(self, on_write: Hook, on_sync: Hook) -> None:
        self._hooks = on_write, on_sync
        for disk in self.world.values():
            disk.on_write = None if on_write is None else lambda _: on_write(self)
            disk.on_sync = None if on_sync is None else lambda _: on_sync(self)

    @property
    def writes(self) -> int:
        return sum(disk.writes for disk in self.world.values())

    @property
    def syncs(self) -> int:
        return sum(disk.syncs for disk in self.world.values())

    def unsynced(self) -> bool:
        return any(disk.unsynced() for disk in self.world.values())

    def bought(self) -> tuple[str, SimDevice]:
        """A disk more, and where it is."""
        path = f"/disks/{len(self.world)}-{self.writes}"
        self.world[path] = SimDevice(MEMBER, len(path), sector=4096, faults=self.faults)
        self._hook(*self._hooks)
        return path, self.world[path]

    def scrapped(self, disk: object) -> None:
        """A disk less, for good."""
        self.world = {path: other for path, other in self.world.items() if other is not disk}

    def crash(self, random: Random | None = None, keep: float | None = None) -> Disks:
        after = Disks(self.world[""].crash(random, keep))
        for path, disk in self.world.items():
            if path:
                after.world[path] = disk.crash(random, keep)
                after.world[path].faults = after.faults
        header = newest_header(after)
        for member in unpack_table(header.members, header.big_blocks)[1:]:
            disk = after.world[member.path]  # a disk that the newest header names is never scrapped
            check_name(disk, header.identity, member)
            after.attach(member.base * BIG_BLOCK, disk)
        return after

    def fail_at(self, call: int, lasting: bool = True) -> None:
        self.world[""].fail_at(call, lasting)

    def full_at(self, call: int, lasting: bool = False) -> None:
        self.world[""].full_at(call, lasting)

    def thin(self, units: int, unit: int) -> None:
        """Of the first disk's host."""
        self.world[""].thin(units, unit)

    def heal(self) -> None:
        for disk in self.world.values():
            disk.heal()
