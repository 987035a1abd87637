"""A whole cluster on one machine, to try things out: processes that can be killed, stopped, cut off, wiped.

As root, where ip(8) is, each node has a network namespace of its own behind a bridge, so that `cut` drops packets and
nobody hears a reset; else all are on the loopback interface, and cannot be cut. A cut in one direction has those who
send address their packets to an interface that there is not, which takes no filter in the kernel.

    DIR/lab.json     the nodes: number in the lab, directory, address, namespace, process
    DIR/n1 ...       their directories, with a log each; DIR/client the identity of clients; DIR/mnt the mount

Numbers of the lab stay: a node that was wiped comes back under its number with a new identity and node id.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from gavel.errors import BadRequest, GavelError
from gavel.mount import mounted
from gavel.node import founding, joining
from gavel.node.calls import call
from gavel.node.directory import Directory
from gavel.node.launch import Options, mount_in_background
from gavel.node.layout import SOCKET
from gavel.node.places import alive
from gavel.node.protocol import Json
from gavel.node.umount import unmount
from gavel.wire.messages import Role

SIZE: Final = 16 * 1024**3
PORT: Final = 7400
_NETWORKS: Final = 254
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 30
_TOKEN_SECONDS: Final = 600
_NOBODY: Final = "02:00:00:00:00:00"  # no interface has this address: what is sent there gets lost

Way = Literal["both", "in", "out"]


class Lab:
    """The lab in a directory; raises BadRequest where there is none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        try:
            self._state: Json = json.loads((self.path / "lab.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadRequest(f"{self.path} is no lab; `gavel lab up {self.path}` makes one") from None

    @classmethod
    def make(cls, path: str | os.PathLike[str], masters: int, volume: Path | None = None) -> Lab:
        """A new lab with so many masters, which run when this returns; raises BadRequest.

        `volume` becomes the first master's, and the others get what it holds.
        """
        where = Path(path).absolute()
        where.mkdir(parents=True, exist_ok=True)
        if any(where.iterdir()):
            raise BadRequest(f"{where} is not empty; name a directory of its own for the lab")
        with _one_at_a_time():
            net = _network(where) if _can_cut() else ""
            (where / "lab.json").write_text(json.dumps({"network": net, "nodes": {}}), encoding="utf-8")
            lab = cls(where)
            lab._connect()
        first = lab._place(1)
        made = joining.create(str(first), lab._nodes["1"]["address"], name="n1")
        if volume is None:
            founding.make(made.path, SIZE, None)
        else:
            founding.adopt(made.path, founding.check_adoptable(volume))
        lab.start(1)
        token = joining.invite(Directory(first), Role.CLIENT, _TOKEN_SECONDS)
        joining.join(token, str(where / "client"), name="lab")
        for _ in range(1, masters):
            lab.add()
        lab.mount()
        return lab

    @property
    def url(self) -> str:
        """What clients use."""
        return "gavel://" + ",".join(one["address"] for one in self._nodes.values())

    @property
    def identity(self) -> Path:
        """The identity for clients (GAVEL_IDENTITY)."""
        return self.path / "client"

    @property
    def nodes(self) -> dict[int, Json]:
        """The nodes by their number in the lab."""
        return {int(number): dict(one) for number, one in self._nodes.items()}

    def up(self) -> None:
        """Start what does not run, and mount it."""
        self._connect()
        for number in self.nodes:
            if not self.running(number):
                self.start(number)
        self.mount()

    def down(self) -> None:
        """Unmount, end everything in order, and take the network away. What is on disk stays."""
        if self.mounted:
            unmount(str(self.mnt))
        running = [number for number in self.nodes if self.running(number)]
        for number in running:
            self._signal(number, signal.SIGCONT)
            self._signal(number, signal.SIGTERM)
        for number in running:
            self._wait_end(number)
        self._disconnect()

    @property
    def mnt(self) -> Path:
        """Where the lab is mounted."""
        return self.path / "mnt"

    @property
    def mounted(self) -> bool:
        """Whether it is."""
        return mounted.at(str(self.mnt)) is not None

    def mount(self) -> None:
        """Mount it at DIR/mnt; where this user cannot mount anything it stays unmounted."""
        self.mnt.mkdir(exist_ok=True)
        if self.mounted or not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return
        os.environ["GAVEL_IDENTITY"] = str(self.identity)  # for the process behind the mount
        mount_in_background(Options(self.url, str(self.mnt)))

    def add(self, role: Role = Role.MASTER) -> int:
        """One more node, which runs when this returns; its number in the lab."""
        number = next(number for number in itertools.count(1) if number not in self.nodes)
        self._join(number, role)
        return number

    def command(self, directory: Path) -> list[str]:
        """What serves a node."""
        return [sys.executable, "-P", "-m", "gavel", "serve", str(directory)]

    def start(self, number: int) -> None:
        """Start a node's process, and wait until it answers; raises BadRequest if it ends instead."""
        if self.running(number):
            raise BadRequest(f"node {number} of the lab runs already")
        one = self._node(number)
        directory = Path(one["directory"])
        command = self.command(directory)
        if one["namespace"]:
            # Not by `ip netns exec`: that makes a mount namespace, too, which would keep the lab's own mount alive.
            command = ["nsenter", f"--net=/run/netns/{one['namespace']}", *command]
        with open(self.path / f"n{number}.log", "ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        one["pid"] = child.pid
        self._save()
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if child.poll() is not None:
                tail = (self.path / f"n{number}.log").read_text(errors="replace").strip().splitlines()
                raise BadRequest(f"node {number} of the lab ended at once: {tail[-1] if tail else 'it said nothing'}")
            with contextlib.suppress(GavelError, OSError):
                call(directory / SOCKET, "status", {}, 5)
                child.returncode = 0  # it lives on by itself: nobody waits for it here
                return
            time.sleep(0.05)
        raise BadRequest(f"node {number} of the lab does not answer; look at {self.path}/n{number}.log")

    def kill(self, number: int) -> None:
        """SIGKILL: the process is gone, its disk stays."""
        self._signal(number, signal.SIGCONT)
        self._signal(number, signal.SIGKILL)
        self._wait_end(number)

    def stop(self, number: int) -> None:
        """SIGSTOP: it hangs; its connections stay."""
        self._signal(number, signal.SIGSTOP)

    def cont(self, number: int) -> None:
        """SIGCONT: it goes on where it was."""
        self._signal(number, signal.SIGCONT)

    def cut(self, number: int, way: Way = "both") -> None:
        """Drop all packets to a node (in), from it (out), or both."""
        self._set_cut(number, way)

    def heal(self, number: int) -> None:
        """Let packets pass again."""
        self._set_cut(number, None)

    def wipe(self, number: int) -> None:
        """Its disk is lost: it comes back empty, as a new member, and gets everything from the others."""
        one = self._node(number)
        settings = Directory(one["directory"]).settings
        if self.running(number):
            self.kill(number)
        self.ask("remove", {"node": settings.node}, but=number)
        shutil.rmtree(one["directory"])
        self._join(number, settings.role)

    def remove(self, number: int) -> None:
        """It leaves the cluster and the lab for good, alive or dead, with its disk."""
        one = self._node(number)
        self.ask("remove", {"node": Directory(one["directory"]).settings.node}, but=number)
        if self.running(number):
            self.kill(number)
        if one["namespace"]:
            self.heal(number)
            self._detach(one)
        shutil.rmtree(one["directory"])
        del self._nodes[str(number)]
        self._save()

    def running(self, number: int) -> bool:
        """Whether a node's process is there, stopped or not."""
        pid = self._node(number).get("pid")
        return pid is not None and alive(int(pid))

    def ask(self, name: str, args: Json, but: int = 0) -> Json:
        """Make a call to the first node that answers; raises BadRequest if none does."""
        problem: Exception = BadRequest("no node of the lab runs")
        for number in self.nodes:
            if number != but and self.running(number):
                try:
                    return call(Path(self._node(number)["directory"]) / SOCKET, name, args, 5)
                except (OSError, GavelError) as found:
                    problem = found
        raise problem

    # Inside.

    @property
    def _nodes(self) -> dict[str, Any]:
        nodes: dict[str, Any] = self._state["nodes"]
        return nodes

    def _node(self, number: int) -> Json:
        one: Json | None = self._nodes.get(str(number))
        if one is None:
            raise BadRequest(f"there is no node {number} in this lab; it has {', '.join(self._nodes)}")
        return one

    def _save(self) -> None:
        fresh = self.path / "lab.json.new"
        fresh.write_text(json.dumps(self._state, indent=1), encoding="utf-8")
        fresh.replace(self.path / "lab.json")

    def _join(self, number: int, role: Role) -> None:
        where = self._place(number)
        problem: GavelError = BadRequest("no node of the lab runs that could invite another one")
        for other in self.nodes:
            if other == number or not self.running(other):
                continue
            try:
                token = joining.invite(Directory(self._node(other)["directory"]), role, _TOKEN_SECONDS)
                made, created = joining.join(token, str(where), self._node(number)["address"], name=f"n{number}")
            except GavelError as found:
                problem = found
                continue
            founding.make_empty(made.path, SIZE, None, created)
            self.start(number)
            return
        raise problem

    def _place(self, number: int) -> Path:
        """Where a node is, with its part of the network."""
        where = self.path / f"n{number}"
        known = self._nodes.get(str(number), {})
        net = self._state["network"]
        space = f"{_name(self.path)}-{number}" if net else ""
        address = known.get("address") or (f"{net}.{number}:{PORT}" if net else f"127.0.0.1:{_free_port()}")
        fresh = {"directory": str(where), "address": address, "namespace": space, "pid": None, "cut": known.get("cut")}
        self._nodes[str(number)] = fresh
        self._save()
        if space:
            self._attach(number)
        return where

    def _signal(self, number: int, what: signal.Signals) -> None:
        if not self.running(number):
            raise BadRequest(f"node {number} of the lab does not run; `gavel lab start {self.path} {number}`")
        os.kill(int(self._node(number)["pid"]), what)

    def _wait_end(self, number: int) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        while self.running(number):
            if time.monotonic() > deadline:
                raise BadRequest(f"node {number} of the lab does not end; look at {self.path}/n{number}.log")
            time.sleep(0.02)

    # The network: a bridge on the host, for each node a namespace and a pair of interfaces.

    def _connect(self) -> None:
        net = self._state["network"]
        if not net:
            return
        bridge = _name(self.path)
        other = _networks().get(net, bridge)
        if other != bridge:
            raise BadRequest(f"another lab ({other}) uses the network {net}.0/24 of this one; take that down first")
        if not _ip("link", "show", bridge, check=False):
            _ip("link", "add", bridge, "type", "bridge")
            _ip("address", "add", f"{net}.254/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
        for number in self.nodes:
            self._attach(number)

    def _attach(self, number: int) -> None:
        bridge, space, net = _name(self.path), self._node(number)["namespace"], self._state["network"]
        if _ip("link", "show", space, check=False):
            return
        _ip("netns", "add", space)
        _ip("link", "add", space, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", space, "master", bridge, "up")
        for words in (("link", "set", "lo", "up"), ("link", "set", "eth0", "up")):
            _ip("-n", space, *words)
        _ip("-n", space, "address", "add", f"{net}.{number}/24", "dev", "eth0")

    def _disconnect(self) -> None:
        if not self._state["network"]:
            return
        for one in self._nodes.values():
            self._detach(one)
            one["cut"] = None
        self._save()
        _ip("link", "del", _name(self.path), check=False)

    def _detach(self, one: Json) -> None:
        _ip("netns", "del", one["namespace"], check=False)
        _ip("link", "del", one["namespace"], check=False)

    def _set_cut(self, number: int, way: Way | None) -> None:
        one = self._node(number)
        if not one["namespace"]:
            raise BadRequest("the nodes of this lab share the loopback interface; make a lab as root to cut them off")
        before = one.get("cut")
        one["cut"] = way
        self._save()
        if "both" in (before, way):
            _ip("link", "set", one["namespace"], "down" if way == "both" else "up")
        for other in self.nodes:
            if other != number:
                self._route(number, other)
                self._route(other, number)
        self._route(0, number)
        self._route(number, 0)

    def _route(self, source: int, target: int) -> None:
        """Have packets from one node to another arrive, or get lost; 0 is the host."""
        ways = [self._nodes[str(number)].get("cut") if number else None for number in (source, target)]
        lost = ways[0] == "out" or ways[1] == "in"
        where = ["-n", self._node(source)["namespace"]] if source else []
        device = "eth0" if source else _name(self.path)
        address = f"{self._state['network']}.{target or 254}"
        if lost:
            _ip(*where, "neigh", "replace", address, "lladdr", _NOBODY, "nud", "permanent", "dev", device)
        else:
            _ip(*where, "neigh", "del", address, "dev", device, check=False)


def _can_cut() -> bool:
    return os.geteuid() == 0 and all(map(shutil.which, ("ip", "nsenter"))) and _ip("netns", "list", check=False)


def _name(path: Path) -> str:
    """The name of a lab's bridge; with a node's number at most fifteen characters, as the kernel wants it."""
    return f"gv{zlib.crc32(str(path).encode()) & 0xFFFFFF:06x}"


def _network(path: Path) -> str:
    """The first three bytes of a new lab's addresses, in 10.213.0.0/16: a network that nobody here has."""
    first, taken = zlib.crc32(str(path).encode()), _networks()
    for step in range(_NETWORKS):
        net = f"10.213.{(first + step) % _NETWORKS + 1}"
        if net not in taken:
            return net
    raise BadRequest(f"all {_NETWORKS} networks for labs are in use; end some by `gavel lab down DIR`")


def _networks() -> dict[str, str]:
    """The networks of labs that are up, with the interface that has them."""
    done = subprocess.run(["ip", "-o", "-4", "address"], capture_output=True, text=True, check=False)
    found = re.findall(r"^\d+:\s+(\S+)\s+inet (10\.213\.\d+)\.254/24", done.stdout, flags=re.MULTILINE)
    return {net: interface for interface, net in found}


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Labs that are made at the same time take different networks."""
    with open(Path(tempfile.gettempdir()) / f"gavel-labs-{os.geteuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ip(*words: str, check: bool = True) -> bool:
    """Run ip(8); whether it went well. Raises BadRequest if it must."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise BadRequest(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.returncode == 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
