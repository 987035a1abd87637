"""Clients with leases in front of a real master, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from gavel.filesystem import data, directory, namespace, superblock
from gavel.filesystem.caller import Caller
from gavel.limits import VOLUME_MIN
from gavel.media.volume import Volume
from gavel.quorum.messages import Member
from gavel.quorum.votes import MASTER
from gavel.runtime.leased import LeasedEngine
from gavel.runtime.listener import Listener
from gavel.runtime.master import Master
from gavel.sim.device import SimDevice
from gavel.transaction.transaction import Transaction
from gavel.wire.connection import Party
from gavel.wire.messages import Role
from tests.unit.runtime.cluster import CLUSTER

ROOT, CALLER = 1, Caller(0, 0, 0o022)


@asynccontextmanager
async def clients(
    number: int, folder: Path, size: int = 8 * VOLUME_MIN, cached: Sequence[bool] = (True, True)
) -> AsyncIterator[list[LeasedEngine]]:
    """So many clients of one master that is alone in its group."""
    device = SimDevice(size)
    Volume.format(device, identity=bytes(16), salt=1, label="", created_tid=1 << 8)
    master = Master(device, Party(CLUSTER, 1, b"master-number-01", Role.MASTER), founding=[Member(1, MASTER)])
    listener = Listener(master.exchange, "127.0.0.1:0", None, None)
    await listener.start()
    made = []
    try:
        for count in range(number):
            me = Party(CLUSTER, 0, b"client-number-%02d" % count, Role.CLIENT)
            where = [f"127.0.0.1:{listener.port}"]
            made.append(LeasedEngine(where, [1], me, None, lost=folder, cached=cached[count]))
        await made[0].run(lambda tx: superblock.make_root(tx, CALLER))
        yield made
    finally:
        for engine in made:
            await engine.close()
        await listener.close()


def together(work: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())  # type: ignore[arg-type]


def create(name: bytes, content: bytes) -> Callable[[Transaction], Any]:
    def operation(tx: Transaction) -> int:
        obj, _ = namespace.create(tx, ROOT, name, 0o100644, CALLER)
        data.write(tx, obj, 0, content)
        return obj

    return operation


def read(name: bytes) -> Callable[[Transaction], Any]:
    def operation(tx: Transaction) -> bytes:
        found = directory.lookup(tx, ROOT, name)
        assert found is not None
        return b"".join(bytes(part) for part in data.read(tx, found[0], 0, 1 << 20))

    return operation


def test_one_creates_in_memory_and_another_reads_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with clients(2, tmp_path) as (one, two):
            content = bytes(range(256)) * 16
            await one.run(create(b"first", content))
            for number in range(50):
                end = one.at_once(create(b"file-%d" % number, content))
                assert end is not None and end.error is None
                again = one.at_once(read(b"file-%d" % number))
                assert again is not None and again.result == content
            assert one.core.dirty
            assert await two.run(read(b"file-49")) == content  # flushed by the recall
            assert not one.core.dirty
            await two.run(create(b"file-of-two", b"2"))
            assert await one.run(read(b"file-of-two")) == b"2"
            await one.sync()

    together(work)


def test_what_is_synced_is_there_for_who_comes_later(tmp_path: Path) -> None:
    async def work() -> None:
        async with clients(2, tmp_path) as (one, two):
            await one.run(create(b"large", bytes(700_000)))
            tid = await one.sync()
            assert tid and not one.core.dirty
            await one.close()
            assert len(await two.run(read(b"large"))) == 700_000

    together(work)


def test_who_keeps_nothing_sees_what_others_have_not_flushed(tmp_path: Path) -> None:
    async def work() -> None:
        async with clients(2, tmp_path, cached=(True, False)) as (one, two):
            await one.run(create(b"first", b"1"))
            await one.run(create(b"second", b"2"))
            assert one.core.dirty
            assert await two.run(read(b"second")) == b"2"
            await two.run(create(b"third", b"3"))
            assert not two.core.dirty and await one.run(read(b"third")) == b"3"

    together(work)
