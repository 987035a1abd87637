"""The asyncio face: the same names, awaitable."""

import asyncio
import inspect
from pathlib import Path

import pytest

import gavel
from gavel.client import aio
from gavel.client.fs import Fs
from gavel.client.transactions import Transaction
from gavel.client.tree import AsOf, ReadTree, Tree
from gavel.errors import Collision, VolumeBusy
from tests.contracts.api import WHO, formatted

SIZE = 128 * 1024**2


async def _volume() -> aio.AsyncFs:
    from gavel.runtime.engine import Engine

    return aio.AsyncFs(Fs(Engine(formatted(), loop=asyncio.get_running_loop()), WHO))


@pytest.mark.parametrize(
    ("sync", "waiting"),
    [
        (ReadTree, aio.AsyncReadTree),
        (Tree, aio.AsyncTree),
        (AsOf, aio.AsyncAsOf),
        (Transaction, aio.AsyncTransaction),
        (Fs, aio.AsyncFs),
    ],
)
def test_the_same_names_with_the_same_parameters(sync: type, waiting: type) -> None:
    internal = {"removing", "explained", "sync_on_loop", "close_on_loop"}
    for name, member in inspect.getmembers(sync, inspect.isfunction):
        if name.startswith("_") or name.endswith("_job") or name in internal:
            continue
        other = getattr(waiting, name)
        assert list(inspect.signature(member).parameters) == list(inspect.signature(other).parameters), name
        assert inspect.getdoc(other)


def test_in_a_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with gavel.aio.open(tmp_path / "v.gavel", create=True, size=SIZE) as fs:
            tid = await fs.write_bytes("a", b"x", sync=True)
            assert tid is not None
            await fs.write_text("a", "two")
            assert await fs.as_of(tid).read_bytes("a") == b"x"
            with pytest.raises(VolumeBusy):
                await gavel.aio.open(tmp_path / "v.gavel")
        fs = await gavel.aio.open(tmp_path / "v.gavel", read_only=True)
        assert await fs.read_text("a") == "two"
        await fs.close()
        await fs.close()

    asyncio.run(main())


def test_files_directories_and_iterators() -> None:
    async def main() -> None:
        async with await _volume() as fs:
            await fs.makedirs("d/e")
            async with fs.open("d/f", "w") as file:
                assert await file.write("one\ntwo\n") == 8
            async with fs.open("d/f") as file:
                assert [line async for line in file] == ["one\n", "two\n"]
                await file.seek(0)
                assert await file.readline() == "one\n"
            assert file.closed
            assert [entry.name for entry in await fs.scandir("d")] == ["e", "f"]
            assert [base async for base, _, _ in fs.walk("/d")] == ["/d", "/d/e"]
            assert [path async for path in fs.glob("d/*")] == ["d/e", "d/f"]
            await fs.rename("d/f", "d/g")
            await fs.rmtree("d")
            assert await fs.listdir() == []
            assert (await fs.statvfs()).f_blocks and (await fs.info()).label == "test"
            assert await fs.check(deep=True) == []

    asyncio.run(main())


def test_transactions_and_retries() -> None:
    async def main() -> None:
        async with await _volume() as fs:
            await fs.write_text("n", "0")

            async def increment(tx: aio.AsyncTransaction) -> int:
                number = int(await tx.read_text("n")) + 1
                await asyncio.sleep(0)
                await tx.write_text("n", str(number))
                return number

            assert sorted(await asyncio.gather(*(fs.run(increment) for _ in range(5)))) == [1, 2, 3, 4, 5]
            async with fs.transaction(sync=True) as tx:
                await tx.write_text("a", await tx.read_text("n"))
            assert tx.tid is not None and tx.tid > tx.freeze
            tx = fs.transaction()
            await tx.read_text("a")
            await fs.write_text("a", "changed")
            await tx.write_text("b", "")
            with pytest.raises(Collision) as info:
                await tx.commit()
            assert info.value.paths == ("/a",)
            tx = fs.transaction()
            await tx.rollback()

    asyncio.run(main())


def test_the_past_and_upkeep() -> None:
    async def main() -> None:
        async with await _volume() as fs:
            await fs.write_text("a", "1")
            first = await fs.tid()
            await fs.snapshot_create("one")
            await fs.write_text("a", "2")
            await fs.sync()
            assert [version.what for version in await fs.history("a")] == [("created",), ("written",)]
            assert [entry.events[0].path async for entry in fs.log()] == ["/a", "/a"]
            assert [one.kind async for one in fs.diff("/", first)] == ["changed"]
            steps: list[object] = []
            await fs.undo("a", "one", progress=steps.append)
            assert steps and await fs.read_text("a") == "1"
            assert [one.name for one in await fs.snapshot_list()] == ["one"]
            await fs.snapshot_delete("one")

    asyncio.run(main())


def test_watching() -> None:
    async def main() -> None:
        async with await _volume() as fs:
            watch = fs.watch()

            async def first() -> tuple[str, ...]:
                async for change in watch:
                    return change.paths
                return ()

            task = asyncio.create_task(first())
            await asyncio.sleep(0)
            await fs.write_text("a", "x", sync=True)
            assert await asyncio.wait_for(task, 30) == ("/a",)
            assert [change async for change in fs.watch(timeout=0)] == []

            waiting = asyncio.create_task(first())
            await asyncio.sleep(0)
            watch.close()
            assert await asyncio.wait_for(waiting, 30) == ()

    asyncio.run(main())
