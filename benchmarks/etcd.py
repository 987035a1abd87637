"""etcd beside the cluster, in the same run and on the same disk, where `etcd` is on the PATH: three members on the
loopback interface, real fsync, no TLS; a put of 100 bytes through its HTTP gateway.

It has a leader; the gap is that of a client of a follower while the leader is killed.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Row
from benchmarks.places import scratch

MEMBERS = 3
_SECONDS = 60  # until it has a leader, at most
_PATIENCE = 1  # seconds that a client waits for a put before it asks again; etcd itself would for seven


def installed() -> bool:
    """Whether there is anything to compare with."""
    return shutil.which("etcd") is not None


def run(large: bool) -> list[Row]:
    """What a put takes, alone and of 64 clients, and the longest gap when the leader is killed."""
    with scratch() as base, _members(base) as members:
        clients = [_Client(port) for port, _ in members]
        leader = _leader(clients)
        follower = clients[(leader + 1) % MEMBERS]
        times = sorted(follower.timed(b"one") for _ in range(2000 if large else 20))
        return [
            _row("etcd: one put at a time: p50", "ms", statistics.median(times) * 1000),
            _row("etcd: one put at a time: p99", "ms", times[int(len(times) * 0.99)] * 1000),
            _row("etcd: puts of 64 clients", "1/s", _many([port for port, _ in members], 10 if large else 0.5)),
            _row("etcd: longest gap: SIGKILL of the leader", "ms", _gap(follower, members[leader][1]) * 1000),
        ]


def _row(work: str, unit: str, value: float) -> Row:
    return Row(work, unit, value, "", 0, 0)


class _Client:
    """A client of one member."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)

    def ask(self, what: str, question: dict[str, Any]) -> dict[str, Any]:
        """What the member answers; raises OSError, http.client.HTTPException."""
        self._connection.request("POST", f"/v3/{what}", json.dumps(question))
        answer = self._connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
        if answer.status != http.client.OK:
            raise OSError(f"etcd answers {found}")
        return found

    def put(self, key: bytes) -> None:
        """Write a small value."""
        self.ask("kv/put", {"key": base64.b64encode(key).decode(), "value": base64.b64encode(bytes(100)).decode()})

    def timed(self, key: bytes) -> float:
        """The seconds of a put."""
        begin = time.perf_counter()
        self.put(key)
        return time.perf_counter() - begin

    def again(self) -> None:
        """Connect anew."""
        self._connection.close()


@contextmanager
def _members(base: Path) -> Iterator[list[tuple[int, subprocess.Popen[bytes]]]]:
    """Port and process of each member."""
    ports = _free_ports(2 * MEMBERS)
    peers = ",".join(f"m{n}=http://127.0.0.1:{ports[MEMBERS + n]}" for n in range(MEMBERS))
    members: list[tuple[int, subprocess.Popen[bytes]]] = []
    try:
        for n in range(MEMBERS):
            client, peer = f"http://127.0.0.1:{ports[n]}", f"http://127.0.0.1:{ports[MEMBERS + n]}"
            command = [
                "etcd", "--name", f"m{n}", "--data-dir", str(base / f"m{n}"), "--initial-cluster", peers,
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            ]  # fmt: skip
            quiet = subprocess.DEVNULL
            members.append((ports[n], subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)))
        yield members
    finally:
        for _, process in members:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _leader(clients: list[_Client]) -> int:
    """Which member leads, once all have joined and one does."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            states = [client.ask("maintenance/status", {}) for client in clients]
        except (OSError, http.client.HTTPException):
            for client in clients:
                client.again()
        else:
            for n, state in enumerate(states):
                if state["header"]["member_id"] == state.get("leader"):
                    return n
        time.sleep(0.1)
    raise RuntimeError("etcd has no leader")


def _many(ports: list[int], seconds: float, clients: int = 64) -> float:
    """Puts a second of so many clients, each a thread that writes keys of its own, spread over the members."""
    done = [0] * clients
    end = time.perf_counter() + seconds

    def work(n: int) -> None:
        client = _Client(ports[n % len(ports)])
        while time.perf_counter() < end:
            client.put(b"%d-%d" % (n, done[n] % 50))
            done[n] += 1
        client.again()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def _gap(client: _Client, leader: subprocess.Popen[bytes]) -> float:
    """The longest time between two acknowledged puts of one client, while the leader is killed."""
    longest, last = 0.0, time.perf_counter()
    begin, killed = last, False
    while last < begin + 6:
        if not killed and last > begin + 1:
            leader.kill()
            killed = True
        try:
            client.put(b"gap")
        except (OSError, http.client.HTTPException):
            client.again()
            continue
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest
