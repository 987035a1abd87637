"""The parts of a daemon: what systemd is told, calls through the socket, URLs, health."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gavel.errors import BadRequest
from gavel.node import joining, lab, notify, reach
from gavel.node.calls import Calls, call
from gavel.node.health import Collected, Health, healthy
from gavel.node.protocol import Json, Refused
from gavel.node.rate import Rate


def test_systemd_hears_what_it_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "s"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
        notify.ready()
        notify.status("x" * 1000)
        notify.reloading()
        assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(2000) == b"STATUS=" + b"x" * 200
        assert systemd.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert not notify.notify("READY=1")  # nobody there any more: no reason to fail


def test_the_watchdog_is_fed_three_times_as_often_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert notify.watchdog_seconds() == 0
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert notify.watchdog_seconds() == 10
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert notify.watchdog_seconds() == 0


def test_a_unit_quotes_what_systemd_would_take_apart() -> None:
    text = notify.unit(["/usr/bin/gavel", "serve", '/srv/a b/50%$x"y'], "/srv/a b", "me")
    assert 'ExecStart=/usr/bin/gavel serve "/srv/a b/50%%$$x\\"y"\n' in text
    assert "Type=notify\n" in text and "ExecReload=" in text and "WatchdogSec=" in text and "User=me\n" in text


def test_a_call_is_answered_or_refused_as_it_was_there(tmp_path: Path) -> None:
    async def twice(n: int) -> Json:
        return {"twice": 2 * n}

    async def refused() -> Json:
        raise BadRequest("not like that")

    async def test() -> None:
        calls = Calls(tmp_path / "s", {"twice": twice, "refused": refused})
        await calls.start()
        try:
            assert await asyncio.to_thread(call, tmp_path / "s", "twice", {"n": 4}) == {"twice": 8}
            with pytest.raises(Refused, match="not like that"):
                await asyncio.to_thread(call, tmp_path / "s", "refused", {})
            with pytest.raises(Refused, match="no call of a daemon"):
                await asyncio.to_thread(call, tmp_path / "s", "other", {})
            for wrong in ({}, {"n": "4"}, {"n": 4.5}, {"n": None}, {"n": 4, "m": 5}):
                with pytest.raises(Refused, match="call twice") as caught:
                    await asyncio.to_thread(call, tmp_path / "s", "twice", wrong)
                assert caught.value.kind == "BadRequest", wrong
            assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        finally:
            await calls.close()

    asyncio.run(test())
    with pytest.raises(BadRequest, match="no daemon serves"):
        call(tmp_path / "s", "twice", {"n": 4})


def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="too long"):
        asyncio.run(Calls(tmp_path / ("x" * 100), {}).start())


def test_what_a_master_tells_of_the_members_is_remembered(tmp_path: Path) -> None:
    made = joining.create(str(tmp_path / "a"), "h1:7400")

    def told(*members: tuple[int, str, str]) -> list[tuple[int, str, int]]:
        rows = [{"node": n, "url": f"gavel://{at}", "wanted": role, "name": "x"} for n, at, role in members]
        reach.remember(made, [*rows, {"node": 99}])
        return [(entry.node, entry.address, entry.role) for entry in made.book().members()]

    first = (1, "h1:7400", "master")
    assert told(first, (2, "h2:7400", "slave")) == [(1, "h1:7400", 1), (2, "h2:7400", 2)]
    stamps = [entry.stamp for entry in made.book().members()]
    told(first, (2, "h2:7400", "slave"))
    assert [entry.stamp for entry in made.book().members()] == stamps, "nothing is new"
    assert told((1, "h5:7400", "master"), (3, "h3:7400", "master")) == [(1, "h5:7400", 1), (3, "h3:7400", 1)]
    assert made.book().entries[2].removed


def test_labs_take_networks_that_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, str] = {}
    monkeypatch.setattr(lab, "_NETWORKS", 3)
    monkeypatch.setattr(lab, "_networks", lambda: taken)
    for number in range(3):
        taken[lab._network(tmp_path)] = f"gv{number}"
    assert sorted(taken) == ["10.213.1", "10.213.2", "10.213.3"]
    with pytest.raises(BadRequest, match="all 3 networks"):
        lab._network(tmp_path)


def test_urls() -> None:
    assert reach.split("gavel://a:1,b:2/home") == (["a:1", "b:2"], "home")
    assert reach.split("gavel://[::1]:5") == (["[::1]:5"], "")
    for url in ("http://a:1", "gavel://", "gavel:///x", "gavel://a", "gavel://a:1,b"):
        with pytest.raises(BadRequest):
            reach.split(url)


def member(role: str, up: bool) -> Json:
    return {"node": 1, "role": role, "up": up, "lag_ms": None, "rtt_us": 5}


@pytest.mark.parametrize(
    ("status", "good"),
    [
        ({"members": [member("master", True)]}, True),
        ({"members": [member("master", True), member("master", False)]}, False),
        ({"members": [member("master", True), member("master", True), member("master", False)]}, True),
        ({"members": [member("master", True), member("slave", False), member("slave", False)]}, True),
        ({"members": [member("master", True)], "failure": "the disk is full"}, False),
        ({}, False),
    ],
)
def test_health_is_a_majority_and_no_failure(status: Json, good: bool) -> None:
    assert healthy(status) is good


def test_http_answers_gets_of_what_there_is() -> None:
    async def status() -> Json:
        return {"members": [member("master", True)], "sync_tid": "0x0660e00b5e079aff", "epoch": 3}

    async def ask(port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def test() -> None:
        health = Health("127.0.0.1:0", status, {"took over": 2})
        await health.start()
        try:
            assert b"200 OK" in await ask(health.port, b"GET /health HTTP/1.1\r\n\r\n")
            metrics = await ask(health.port, b"GET /metrics?x=1 HTTP/1.1\r\n\r\n")
            assert b"gavel_epoch 3.0" in metrics
            assert b'gavel_events_total{event="took over"} 2.0' in metrics
            assert b"gavel_sync_timestamp_seconds 1.79" in metrics
            assert b"404" in await ask(health.port, b"GET / HTTP/1.1\r\n\r\n")
            assert b"405" in await ask(health.port, b"POST /health HTTP/1.1\r\n\r\n")
            assert await ask(health.port, b"G" * 100_000) == b""
        finally:
            await health.close()

    asyncio.run(test())


PAGE = (Path(__file__).parents[3] / "docs/guide/cluster.md").read_text(encoding="utf-8")
FULL: Json = {
    "members": [
        {"node": 1, "role": "master", "up": True, "lag_ms": 0, "rtt_us": None, "clock_off_us": 0},
        {"node": 2, "role": "slave", "up": False, "lag_ms": 1500, "rtt_us": 250, "clock_off_us": -2_000_000},
        {"node": 3, "role": "witness", "up": True, "lag_ms": None, "rtt_us": 1, "clock_off_us": 0},
    ],
    "sync_tid": "0x0660e00b5e079aff", "epoch": 3, "undecided": 1, "registers": 2, "staged": 3, "total": 1 << 40,
    "free": 1 << 39, "commits": 1234, "failure": None,
}  # fmt: skip


@pytest.mark.parametrize("status", [FULL, {"failure": "the disk is full"}, {}])
def test_metrics_are_what_prometheus_takes_and_its_linter_likes(status: Json) -> None:
    """The rules of `promtool check metrics` that a name and a type can break."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected(status, {"member lost": 1, 'a "quoted" one\n': 2}))
    seen = set()
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert re.fullmatch("gavel_[a-z0-9_]+", family.name) and family.name not in seen
        seen.add(family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            assert sample.name == family.name + ("_total" if family.type == "counter" else "")
            assert set(sample.labels) <= {"node", "role", "event"}
        series = [tuple(sorted(sample.labels.items())) for sample in family.samples]
        assert len(set(series)) == len(series), "each once"
        assert not re.search("_(ms|us|milliseconds|minutes|kb|mb)(_|$)", family.name), "base units"
        assert not re.search("_(gauge|counter|total|count|sum|bucket)$", family.name)
        assert f"`{family.name}{'_total' * (family.type == 'counter')}`" in PAGE
    assert {"gavel_healthy", "gavel_failed", "gavel_member_up", "gavel_commits"} <= seen


def test_metrics_of_members_are_in_base_units() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected(FULL, {}))
    slave = {"node": "2", "role": "slave"}
    assert registry.get_sample_value("gavel_member_lag_seconds", slave) == 1.5
    assert registry.get_sample_value("gavel_member_round_trip_seconds", slave) == 0.00025
    assert registry.get_sample_value("gavel_member_clock_offset_seconds", slave) == -2
    assert registry.get_sample_value("gavel_member_up", slave) == 0
    unknown = {"node": "3", "role": "witness"}
    assert registry.get_sample_value("gavel_member_lag_seconds", unknown) is None, "not known is not nothing"


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.per_second == 0
    for second in range(30):
        rate.note(100 * second if second < 15 else 1500, second)
    assert rate.per_second == 0
    rate.note(2500, 30)
    assert 90 <= rate.per_second <= 100
    rate.note(3, 31)
    assert rate.per_second == 0, "it has begun anew"
