"""What `gavel leases` is told: the tables of all masters that answer, put together by who holds what."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gavel.cli import cluster
from gavel.node.leasing import leases
from gavel.transaction.requests import Asked, Done, Status, Told

ALICE, BOB = "aa" * 16, "bb" * 16


def held(lo: str, hi: str, level: str, mode: str) -> dict[str, str]:
    return {"lo": lo, "hi": hi, "level": level, "mode": mode}


def table(*holders: tuple[str, list[dict[str, str]]], grace: int = 0) -> dict[str, Any]:
    shown = [{"session": who, "ranges": len(what), "recalls": 1, "waiting": 0, "held": what} for who, what in holders]
    return {"sessions": len(shown), "ranges": 3, "bytes": 4096, "recalls_per_second": 1.5, "grace_ns": grace,
            "waiting": 2, "holders": shown}  # fmt: skip


ROOT, HOME = held("", "ffffff", "everything", "S"), held("00", "01", "pfs 0", "X")
OTHERS: dict[int, object] = {
    2: Told({"leases": table((ALICE, [ROOT]), (BOB, [HOME]), grace=2_080_000_000)}),
    3: Told({"leases": {}}),
    4: Told({"node": 4}),  # of a former release
    5: None,
    6: Done(),
}


class Master:
    """A master as far as it is asked here."""

    party = SimpleNamespace(node=1, incarnation=bytes(16), cluster=b"c" * 16)
    peers = dict.fromkeys(OTHERS)

    async def answer(self, request: Callable[[int], Asked]) -> Told:
        assert request(7).question == Status(leases=True)
        return Told({"leases": table((ALICE, [ROOT, HOME]))})

    async def ask_peer(self, node: int, question: Status, session: bytes, seconds: float) -> object:
        return OTHERS[node]

    def client(self, session: bytes) -> tuple[str, str]:
        return ("alice", "10.0.0.7:4711") if session.hex() == ALICE else ("", "")


def found() -> dict[str, Any]:
    return asyncio.run(leases(Master()))  # type: ignore[arg-type]


def test_each_range_is_named_once_with_all_masters_that_stand_behind_it() -> None:
    shown = found()
    assert [one["node"] for one in shown["masters"]] == [1, 2, 3]
    assert [one["grace_ms"] for one in shown["masters"]] == [0, 2080, 0]
    nobody, alice = shown["holders"]
    assert (alice["name"], alice["where"], nobody["name"]) == ("alice", "10.0.0.7:4711", "")
    assert alice["held"] == [{**ROOT, "masters": [1, 2]}, {**HOME, "masters": [1]}]
    assert nobody["held"] == [{**HOME, "masters": [2]}]
    json.dumps(shown)


def test_people_see_it_as_two_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cluster, "_leases", lambda where: found())
    monkeypatch.setenv("COLUMNS", "150")
    cluster.leases("")
    told = capsys.readouterr().out
    assert "alice" in told and "everything" in told and BOB[:8] in told and "4,096" in told
    assert "grants nothing for 2.1 s yet" in told
