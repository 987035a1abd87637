"""Encrypted volumes through the engine and the Python API."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import gavel
from gavel.client.volumes import open_engine
from gavel.errors import GavelError, KeyNeeded, WrongKey
from gavel.limits import VOLUME_MIN

KEY = gavel.Passphrase("open sesame", cost=4)
FILE = gavel.KeyFile(bytes(range(32)))
SECRET = b"the treasure lies under the third stone " * 500


def test_files_of_an_encrypted_volume_are_there_again_with_the_key_only(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    gavel.format_volume(path, size=VOLUME_MIN, key=KEY)
    with gavel.open(path, key=KEY) as fs:
        fs.write_bytes("/treasure", SECRET)
        fs.write_bytes("/small", SECRET[:40])
    for key, error in ((None, KeyNeeded), (gavel.Passphrase("guess", cost=4), WrongKey), (FILE, WrongKey)):
        with pytest.raises(error):
            gavel.open(path, key=key)
    with gavel.open(path, key=KEY) as fs:
        assert (fs.read_bytes("/treasure"), fs.read_bytes("/small")) == (SECRET, SECRET[:40])
    assert SECRET[:40] not in path.read_bytes() and b"treasure" not in path.read_bytes()


def test_rekey_is_done_when_the_waiter_is_called(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    gavel.format_volume(path, size=VOLUME_MIN, key=KEY)

    async def rekey() -> int | GavelError:
        engine, device = open_engine(path, key=KEY, loop=asyncio.get_running_loop())
        try:
            done: asyncio.Future[int | GavelError] = asyncio.get_running_loop().create_future()
            engine.request_rekey(engine.new_lock(FILE), done.set_result)
            return await done
        finally:
            await engine.close()
            device.close()

    assert isinstance(asyncio.run(rekey()), int)
    with pytest.raises(WrongKey):
        gavel.open(path, key=KEY)
    gavel.open(path, key=FILE).close()


def test_create_makes_it_encrypted(tmp_path: Path) -> None:
    async def made() -> bytes:
        async with gavel.aio.open(tmp_path / "v", create=True, size=VOLUME_MIN, key=FILE) as fs:
            await fs.write_bytes("/f", SECRET)
            return bytes(await fs.read_bytes("/f"))

    assert asyncio.run(made()) == SECRET
    with pytest.raises(KeyNeeded):
        gavel.open(tmp_path / "v")
