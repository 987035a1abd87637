"""Syncs by the kernel: told on the loop, one after the other, errors too; and by a thread where it cannot."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gavel.errors import DeviceFailed
from gavel.media.span import SpanDevice
from gavel.runtime import shells
from gavel.runtime.file_device import FileDevice
from gavel.runtime.kernel_sync import KernelSync
from gavel.runtime.shells import LoopShell


def run(test: Callable[[], Awaitable[None]], loops: Callable[[], Any] = uvloop.new_event_loop) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60):
            await test()

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(whole())


@pytest.fixture
def kernel() -> Callable[[], KernelSync]:
    def made() -> KernelSync:
        try:
            return KernelSync(asyncio.get_running_loop())
        except OSError as error:
            pytest.skip(f"this kernel syncs nothing by itself: {error}")

    return made


@pytest.mark.parametrize("loops", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_file_is_synced_again_and_again(tmp_path: Path, kernel: Any, loops: Callable[[], Any]) -> None:
    async def test() -> None:
        syncs = kernel()
        device = FileDevice(str(tmp_path / "file"), create_size=1 << 20)
        for number in range(20):
            device.write(number * 10, [b"some bytes"])
            told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            syncs.sync(device.fileno(), told.set_result)
            assert not told.done(), "told from within the call"
            assert await told == 0
        syncs.close()
        device.close()

    run(test, loops)


def test_an_error_of_the_device_is_told(tmp_path: Path, kernel: Any) -> None:
    async def test() -> None:
        kernel().close()
        device = SpanDevice(FileDevice(str(tmp_path / "file"), create_size=1 << 20))
        shell = LoopShell(device, asyncio.get_running_loop())
        told: asyncio.Future[DeviceFailed | None] = asyncio.get_running_loop().create_future()
        assert shell._kernel is not None
        call = shell._kernel._call

        def broken(number: int, *rest: Any) -> int:
            """As the kernel answers when writing back has failed."""
            result: int = call(number, *rest)
            if number == shell._kernel._events:  # type: ignore[union-attr]
                rest[3][2] = -errno.EIO
            return result

        shell._kernel._call = broken
        shell.sync(told.set_result)
        found = await told
        assert isinstance(found, DeviceFailed)
        assert os.strerror(errno.EIO) in str(found)
        shell.close()
        device.close()

    run(test)


def test_after_close_nobody_is_told(tmp_path: Path, kernel: Any) -> None:
    async def test() -> None:
        syncs = kernel()
        told: list[int] = []
        device = FileDevice(str(tmp_path / "file"), create_size=1 << 20)
        device.write(0, [bytes(100_000)])
        syncs.sync(device.fileno(), told.append)
        syncs.close()
        device.close()
        await asyncio.sleep(0.01)
        assert told == []

    run(test)


def test_what_the_kernel_cannot_sync_a_thread_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def synced(shell: LoopShell) -> DeviceFailed | None:
        told: asyncio.Future[DeviceFailed | None] = asyncio.get_running_loop().create_future()
        shell.sync(told.set_result)
        return await told

    async def refused() -> None:
        """For this kind of file."""
        device = FileDevice(str(tmp_path / "file"), create_size=1 << 20)
        reading, writing = os.pipe()
        monkeypatch.setattr(device, "fileno", lambda: writing)
        shell = LoopShell(device, asyncio.get_running_loop())
        for _ in range(2):
            assert await synced(shell) is None
        assert shell._kernel is None
        shell.close()
        device.close()
        os.close(reading)
        os.close(writing)

    async def unknown() -> None:
        """By a kernel without it."""

        def none(loop: asyncio.AbstractEventLoop) -> KernelSync:
            raise OSError(errno.ENOSYS, "no such call")

        monkeypatch.setattr(shells, "KernelSync", none)
        device = FileDevice(str(tmp_path / "other"), create_size=1 << 20)
        shell = LoopShell(device, asyncio.get_running_loop())
        assert await synced(shell) is None
        shell.close()
        device.close()

    run(refused)
    run(unknown)
