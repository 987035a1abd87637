"""The admin socket itself: the order of what it does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gavel.errors import BadRequest
from gavel.node import protocol
from gavel.node.admin import AdminServer


class Calls:
    """A service with one call, which notes that it ran."""

    def __init__(self, order: list[str]) -> None:
        self._order = order

    def waits(self, name: str) -> bool:
        return False

    def start(self, name: str, args: Any) -> Any:
        self._order.append("ran")
        yield from ()
        return {}


def test_an_answer_comes_when_the_kernel_was_told_what_the_call_has_changed(tmp_path: Path) -> None:
    """The soak read a file just after undo, and saw what the kernel still had of it."""
    order: list[str] = []

    async def caught_up() -> None:
        order.append("caught up")

    async def told() -> None:
        await asyncio.sleep(0.05)
        order.append("told")

    async def work() -> None:
        service: Any = Calls(order)
        server = AdminServer(service, tmp_path / "socket", caught_up, told)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(protocol.encode({"call": "undo"}))
        assert protocol.decode(await reader.readline()) == {"result": {}}
        order.append("answered")
        writer.close()
        await server.close()

    asyncio.run(work())
    assert order == ["caught up", "ran", "told", "answered"]


def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    """The kernel's own words, ENAMETOOLONG or less, do not say which name is to be shorter."""

    async def caught_up() -> None:
        pass

    service: Any = Calls([])
    with pytest.raises(BadRequest, match="directory with a shorter name"):
        asyncio.run(AdminServer(service, tmp_path / ("x" * 100), caught_up).start())


def test_a_line_that_is_no_call_is_refused_and_the_next_one_answered(tmp_path: Path) -> None:
    async def caught_up() -> None:
        pass

    async def work() -> None:
        service: Any = Calls([])
        server = AdminServer(service, tmp_path / "socket", caught_up)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        for line in (b"[]", b"{}", b'{"call":5}', b'{"call":"undo","args":[1]}', b"\xff", b"{"):
            writer.write(line + b"\n")
            assert protocol.decode(await reader.readline())["error"]["kind"] == "BadRequest", line
        writer.write(protocol.encode({"call": "undo"}))
        assert protocol.decode(await reader.readline()) == {"result": {}}
        writer.close()
        await server.close()

    asyncio.run(work())
