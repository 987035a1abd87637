"""Power cuts on volumes of several members, while members come, are emptied, and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gavel.errors import BadRequest, GavelError, VolumeFull
from gavel.limits import BIG_BLOCK
from gavel.media.members import LEAVING, Members, clear_name
from gavel.media.span import SpanDevice
from gavel.media.volume import Volume
from gavel.sim.device import SimDevice
from tests.crash.disks import Disks
from tests.crash.test_media import SEEDS, SIZE, cut_everywhere, run
from tests.crash.toy import Workload


class Mover(Workload):
    """A workload that also adds members, empties them, and lets go of them."""

    grown = dropped = 0

    @property
    def disks(self) -> Disks:
        assert isinstance(self.device, Disks)
        return self.device

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.03:
            self.change_members()
        elif choice < 0.25:
            self.move_one()
        else:
            super().step()

    def change_members(self) -> None:
        volume = self.toy.volume
        further = [use.member for use in volume.members()[1:]]
        leaving = [member for member in further if member.state == LEAVING]
        if len(further) < 2 and self.random.random() < 0.6:
            path, disk = self.disks.bought()
            volume.grow(disk, self.random.randbytes(16), path)
            self.grown += 1
        elif leaving:
            try:
                volume.drop(leaving[0].number, self.gone)
            except BadRequest:
                if self.random.random() < 0.2:
                    volume.include(leaving[0].blocks)
        elif further and further[0].base < len(volume._map):  # not one that waits for the end of a checkpoint
            volume.exclude(further[0].blocks)

    def gone(self, device: Any) -> None:
        self.dropped += 1
        self.disks.scrapped(device)
        device.on_write = None
        clear_name(device)

    def move_one(self) -> None:
        """Do to one victim what reblock does: extents and nodes go elsewhere."""
        toy, volume = self.toy, self.toy.volume
        found = volume.victims(0.1)
        if not found:
            return
        block = self.random.choice(found).block
        for index, address in enumerate(toy.addresses):
            if address and (address >> 18) * 64 // BIG_BLOCK == block:
                volume.free_node(address)
                toy.addresses[index] = 0
                toy.dirty.add(index)
        for bucket in toy.buckets:
            for number, extent in sorted(bucket.items()):
                if extent.place // BIG_BLOCK == block:
                    self.note(toy.put(number, volume.read(extent.place, extent.stored)))
                    return


def crowded(seed: int) -> Mover:
    """One whose further members are used: most of the first is excluded."""
    workload = make(seed)
    for _ in range(2):
        path, disk = workload.disks.bought()
        workload.toy.volume.grow(disk, workload.random.randbytes(16), path)
    workload.begin_checkpoint()
    workload.finish_checkpoint()
    workload.toy.volume.exclude(range(4, SIZE // BIG_BLOCK))
    return workload


def make(seed: int) -> Mover:
    device = SimDevice(SIZE, seed, sector=4096)
    Volume.format(device, identity=bytes(16), salt=0xABCDEF + seed, label="", created_tid=1)
    return Mover(Disks(device), seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_at_every_write_while_members_come_and_go_loses_nothing_that_was_synced(seed: int) -> None:
    workload = crowded(seed)
    assert cut_everywhere(workload, 500) > 100
    workload.device.on_write = None
    for _ in range(2000):
        if workload.grown > 1 and workload.dropped:
            return
        run(workload, 1)
    raise AssertionError(f"{workload.grown} grown, {workload.dropped} dropped; the run proves too little")


def _used_before_it_is_known(patch: pytest.MonkeyPatch) -> None:
    take_in = Members.take_in

    def hasty(members: Any) -> int:
        before = members._map.lowest
        count = take_in(members)
        for member in members._unknown:
            members._map.unhold(member.blocks)
            members._map.lowest = before if not count else member.base  # and preferred, so that it shows
        return count

    patch.setattr(Members, "take_in", hasty)


def _scrapped_before_a_header_without_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    drop = Members.drop

    def hasty(members: Any, number: int, gone: Callable[[Any], None]) -> None:
        drop(members, number, gone)
        ((member, _),) = members._going
        gone(members._device.member(member.base * BIG_BLOCK))

    patch.setattr(Members, "drop", hasty)


def _only_the_first_is_synced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SpanDevice, "_sync", lambda span: span._members[0].sync())


@pytest.mark.parametrize(
    "plant", [_used_before_it_is_known, _scrapped_before_a_header_without_it_is_durable, _only_the_first_is_synced]
)
def test_a_planted_bug_with_members_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in range(6):
        try:
            cut_everywhere(crowded(seed) if seed % 2 else make(seed), 600)
        except (GavelError, AssertionError, KeyError):
            return
    raise AssertionError("no check noticed the planted bug")


def test_a_full_volume_takes_no_exclusion_that_cannot_be_emptied() -> None:
    workload = make(3)
    path, disk = workload.disks.bought()
    workload.toy.volume.grow(disk, bytes(16), path)
    workload.begin_checkpoint()
    workload.finish_checkpoint()
    volume = workload.toy.volume
    while volume.space().free > BIG_BLOCK:
        workload.toy.put(len(workload.toy.state()), bytes(1 << 20))
    with pytest.raises(VolumeFull):
        volume.exclude(volume.members()[1].member.blocks)
    assert volume.members()[1].member.state != LEAVING
