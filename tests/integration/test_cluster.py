"""A cluster of real processes: founding, joining, serving, status, roles, and what is refused; by the command."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gavel.cli import output
from gavel.cli.main import run
from gavel.errors import BadRequest
from gavel.node.calls import call
from gavel.node.lab import Lab, _can_cut
from gavel.node.layout import SOCKET

ROOT = Path(__file__).parents[2]
WAIT = 60  # seconds that something may take on a machine with much else to do
SIZE = "128M"


def gavel(*arguments: str, code: int = 0, **environment: str) -> str:
    """The output of a command that ends with this code; of one that fails, its error."""
    out, errors = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(errors):
        ended = run(list(arguments))
    assert ended == code, errors.getvalue() + out.getvalue()
    return errors.getvalue() if code else out.getvalue()


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` gives when it gives something true, soon."""
    deadline = time.monotonic() + WAIT
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Served:
    """Daemons of directories below one; ended with the test."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def create(self, name: str, *more: str) -> Path:
        gavel("cluster", "create", str(self.base / name), "--listen", f"127.0.0.1:{free_port()}", *more)
        return self.base / name

    def join(self, name: str, inviter: Path, role: str = "master") -> Path:
        token = gavel("cluster", "invite", str(inviter), "--role", role).strip()
        listen = [] if role == "client" else ["--listen", f"127.0.0.1:{free_port()}", "--size", SIZE]
        gavel("cluster", "join", token, str(self.base / name), *listen)
        return self.base / name

    def start(self, directory: Path, **environment: str) -> subprocess.Popen[bytes]:
        log = open(self.base / f"{directory.name}.log", "ab")  # noqa: SIM115 the process has it
        with log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gavel", "serve", str(directory)],
                stderr=log,
                stdout=log,
                env={**os.environ, **environment},
            )
        self.processes[directory.name] = process
        eventually(lambda: process.poll() is not None or self.status(directory))
        assert process.poll() is None, self.log(directory)
        return process

    def log(self, directory: Path) -> str:
        return (self.base / f"{directory.name}.log").read_text()

    def status(self, directory: Path) -> Any:
        try:
            return call(directory / SOCKET, "status", {})
        except (BadRequest, OSError):
            return None

    def roles(self, directory: Path) -> dict[int, str]:
        return {one["node"]: one["role"] for one in self.status(directory)["members"] if one["up"]}

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.close()


def edited(directory: Path, name: str, value: str) -> None:
    path = directory / "node.toml"
    path.write_text(re.sub(rf'^{name} = "[^"]*"', f'{name} = "{value}"', path.read_text(), flags=re.M))


def test_a_cluster_grows_shrinks_and_survives_its_masters(served: Served, tmp_path: Path) -> None:
    first = served.create("a", "--size", SIZE)
    served.start(first)
    second, third = served.join("b", first), served.join("c", first)
    for directory in (second, third):
        served.start(directory)
    eventually(lambda: served.roles(second) == {1: "master", 2: "master", 3: "master"})

    client = served.join("me", first, "client")
    url = f"gavel://{json.loads(gavel('status', str(third), '--json'))['members'][2]['url'].removeprefix('gavel://')}"
    told = json.loads(gavel("status", url, "--json", GAVEL_IDENTITY=str(client)))
    assert [one["url"] for one in told["members"]][2] == url
    assert set(told["members"][0]) >= {"node", "url", "role", "up", "sync_tid", "lag_ms", "catch_up"}
    assert "round trip" in gavel("status", str(first))

    served.processes["a"].kill()  # the founder, with the authority's key
    served.processes["a"].wait()
    eventually(lambda: served.roles(second) == {2: "master", 3: "master"})
    served.start(served.join("d", third))
    eventually(lambda: served.roles(second) == {2: "master", 3: "master", 4: "master"})
    served.start(first)
    eventually(lambda: served.roles(first) == dict.fromkeys((1, 2, 3, 4), "master"))

    gavel("cluster", "demote", "4", "--dir", str(second))
    eventually(lambda: served.roles(second)[4] == "slave")
    gavel("cluster", "promote", "4", "--dir", str(third))
    eventually(lambda: served.roles(second)[4] == "master")
    gavel("cluster", "remove", "4", GAVEL_DIR=str(first))
    eventually(lambda: set(served.roles(second)) == {1, 2, 3})
    eventually(lambda: "was removed from the cluster" in served.log(tmp_path / "d"))
    assert "there is no node 4" in gavel("cluster", "remove", "4", "--dir", str(first), code=output.USAGE)
    assert "cannot remove itself" in gavel("cluster", "remove", "1", "--dir", str(first), code=output.USAGE)


def test_a_volume_grows_into_a_cluster_where_it_lies(served: Served, tmp_path: Path) -> None:
    import gavel as api

    disk = tmp_path / "disk.gavel"
    with api.open(str(disk), create=True, size=128 * 1024**2) as fs:
        fs.write_bytes("/kept", b"kept")
        tid = fs.sync()
    directory = served.create("a", "--from", str(disk))
    process = served.start(directory)
    assert int(served.status(directory)["sync_tid"], 16) >= int(str(tid), 0)
    assert "in use" in gavel("info", str(disk), code=output.BUSY)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0
    with api.open(str(directory / "volume.gavel"), read_only=True) as fs:
        assert fs.read_bytes("/kept") == b"kept"


def test_systemd_is_told_and_signals_reload_and_drain(served: Served, tmp_path: Path) -> None:
    directory = served.create("a", "--size", SIZE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT)

        def hears(word: str) -> None:
            while word not in systemd.recv(4096).decode():
                pass

        process = served.start(directory, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000")
        hears("READY=1")
        hears("WATCHDOG=1")
        edited(directory, "name", "another")
        process.send_signal(signal.SIGHUP)
        hears("RELOADING=1")
        hears("READY=1")
        assert served.status(directory)["members"][0]["name"] == "another"
        (directory / "node.toml").write_text("nothing")
        process.send_signal(signal.SIGHUP)
        hears("RELOADING=1")
        hears("READY=1")
        assert "not reloaded" in served.log(directory)
        process.send_signal(signal.SIGTERM)
        hears("STOPPING=1")
    assert process.wait(WAIT) == 0
    assert "everything is durable" in served.log(directory)


def test_health_and_metrics(served: Served) -> None:
    directory = served.create("a", "--size", SIZE)
    port = free_port()
    edited(directory, "http", f"127.0.0.1:{port}")
    served.start(directory)

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            return problem.code, problem.read().decode()

    code, body = get("/health")
    assert (code, json.loads(body)["healthy"]) == (200, True)
    code, body = get("/metrics")
    assert code == 200
    assert "gavel_healthy 1.0" in body
    assert 'gavel_member_up{node="1",role="master"} 1.0' in body
    assert get("/other")[0] == 404


def test_what_is_asked_wrongly_is_said(served: Served, tmp_path: Path) -> None:
    directory = served.create("a", "--size", SIZE)
    client = tmp_path / "client"
    served.start(directory)
    assert "another process serves" in gavel("serve", str(directory), code=output.USAGE)
    token = gavel("cluster", "invite", str(directory), "--role", "client").strip()
    gavel("cluster", "join", token, str(client))
    assert "identity of a client" in gavel("serve", str(client), code=output.USAGE)
    assert "used already" in gavel("cluster", "join", token, str(tmp_path / "again"), code=output.USAGE)
    assert "not whole" in gavel("cluster", "join", token[:-3], str(tmp_path / "again"), code=output.USAGE)
    assert "which node" in gavel("cluster", "demote", "1", "--dir", str(tmp_path), code=output.USAGE)
    nobody = gavel("status", "gavel://127.0.0.1:1", code=output.USAGE, XDG_CONFIG_HOME=str(tmp_path / "none"))
    assert "which identity" in nobody
    assert "Type=notify" in gavel("serve", str(directory), "--unit")


def test_a_copy_of_a_directory_that_runs_too_is_refused(served: Served, tmp_path: Path) -> None:
    """Node 2 is copied while it runs; the copy listens elsewhere, under the same identity."""
    import shutil

    first = served.create("a", "--size", SIZE)
    served.start(first)
    second = served.join("b", first)
    served.start(second)
    third = served.join("c", first)
    served.start(third)
    eventually(lambda: served.roles(first) == {1: "master", 2: "master", 3: "master"})
    shutil.copytree(second, tmp_path / "x", ignore=shutil.ignore_patterns("admin.sock", "lock"))
    copy = tmp_path / "x"
    edited(copy, "listen", f"127.0.0.1:{free_port()}")
    served.start(copy)
    eventually(lambda: "two processes say that they are node 2" in served.log(copy))
    assert served.roles(first) == {1: "master", 2: "master", 3: "master"}


def asked_by(lab: Lab, number: int, back: bool = False) -> str:
    """Whether a packet of a node arrives at the host, or one of the host at the node (UDP: nothing answers)."""
    space = f"/run/netns/{lab.nodes[number]['namespace']}"
    node = lab.nodes[number]["address"].partition(":")[0]
    host = node.rpartition(".")[0] + ".254"
    listen = "import socket; s = socket.socket(type=2); s.bind(('', 9)); s.settimeout(1); print(flush=True); s.recv(9)"
    send = f"import socket; socket.socket(type=2).sendto(b'x', ('{node if back else host}', 9))"
    inside = ["nsenter", f"--net={space}", sys.executable, "-c"]
    outside = [sys.executable, "-c"]
    hearer, sender = (inside, outside) if back else (outside, inside)
    with subprocess.Popen([*hearer, listen], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as hearing:
        assert hearing.stdout is not None
        hearing.stdout.readline()
        subprocess.run([*sender, send], check=True)
    return "not heard" if hearing.returncode else "heard"


@pytest.mark.skipif(not _can_cut(), reason="network namespaces need root and ip(8)")
def test_a_lab_is_cut_wiped_and_comes_back(tmp_path: Path) -> None:
    lab = Lab.make(tmp_path / "lab", 3)
    try:

        def up() -> set[str]:
            return {one["name"] for one in lab.ask("status", {})["members"] if one["up"] and one["role"] == "master"}

        eventually(lambda: up() == {"n1", "n2", "n3"})
        for way in ("in", "out", "both"):  # what else there is the nemesis does
            lab.cut(3, way)
            eventually(lambda: up() == {"n1", "n2"})
            lab.heal(3)
            eventually(lambda: up() == {"n1", "n2", "n3"})
        lab.cut(2, "in")  # what it sends goes on to arrive
        assert asked_by(lab, 2) == "heard" and asked_by(lab, 2, back=True) == "not heard"
        lab.heal(2)
        assert asked_by(lab, 2, back=True) == "heard"
        lab.wipe(2)
        eventually(lambda: up() == {"n1", "n2", "n3"})
        assert sorted(one["node"] for one in lab.ask("status", {})["members"]) == [1, 3, 4]
        lab.down()
        assert not any(lab.running(number) for number in lab.nodes)
        lab.up()
        eventually(lambda: up() == {"n1", "n2", "n3"})
    finally:
        lab.down()


@pytest.mark.skipif(not _can_cut(), reason="network namespaces need root and ip(8)")
def test_two_labs_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They took the same addresses if the sums of their paths were alike."""
    monkeypatch.setattr("gavel.node.lab.zlib.crc32", lambda path: 7 if path.endswith(b"one") else 7 + 254 * 3)
    labs = [Lab.make(tmp_path / name, 1) for name in ("one", "two")]
    try:
        for one in labs:
            assert [member["node"] for member in one.ask("status", {})["members"]] == [1]
        assert len({one.nodes[1]["address"] for one in labs}) == 2
        if labs[0].mounted:
            (labs[0].mnt / "here").write_text("one")
            assert not (labs[1].mnt / "here").exists()
    finally:
        for one in labs:
            one.down()
