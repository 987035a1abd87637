"""The daemon of a node of a cluster: `gavel serve DIR`.

SIGTERM and SIGINT drain: no new requests, those under way are answered, a checkpoint, the end. SIGHUP reads node.toml
and the certificate again. systemd is told when it is ready, reloads, stops, and that it is alive, if it wants to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gavel.client.cluster import Cluster
from gavel.client.fs import Fs
from gavel.client.volumes import caller
from gavel.errors import BadRequest, GavelError
from gavel.node import authority, logs, notify
from gavel.node.calls import Call, Calls
from gavel.node.courses import CourseFile
from gavel.node.directory import Directory
from gavel.node.health import Health
from gavel.node.joining import Door
from gavel.node.layout import SOCKET
from gavel.node.leasing import leases
from gavel.node.news import News
from gavel.node.node_service import NodeService
from gavel.node.protocol import Json
from gavel.node.rate import Rate
from gavel.node.renewing import note_ends
from gavel.node.report import report
from gavel.node.steward import Steward
from gavel.node.trust import Trust
from gavel.runtime import tls
from gavel.runtime.dialler import address_of
from gavel.runtime.inside import InsideEngine
from gavel.runtime.link import Link
from gavel.runtime.listener import Listener
from gavel.runtime.master import Master
from gavel.runtime.open_volume import open_device
from gavel.runtime.served import ServedEngine
from gavel.transaction import requests
from gavel.wire.connection import Party
from gavel.wire.messages import Role

if TYPE_CHECKING:
    from gavel.media.cipher import Key

log = logging.getLogger("gavel.node")

_NEWS_SECONDS = 1.0
_FIRST_NEWS_SECONDS = 3.0  # links are made meanwhile
_LEVELS = {  # of what is observed, where it is more than information
    "master failed": logging.ERROR, "sync failed": logging.ERROR, "expelled": logging.ERROR,
    "clock off": logging.WARNING, "left behind": logging.WARNING, "checkpoint failed": logging.WARNING,
    "away for too long": logging.WARNING, "catch-up impossible": logging.WARNING, "old copy": logging.WARNING,
    "catch-up refused": logging.WARNING, "file data not taken": logging.WARNING,
}  # fmt: skip
FOUNDER = 1  # the node id of the master that founded its cluster


def run(directory: Directory, key: Key | None, ready: Callable[[Json], None] = lambda message: None) -> None:
    """Serve until told to end; raises what keeps it from serving. `ready` is told once it serves."""
    import uvloop

    from gavel.node.launch import _collect_rarely

    if directory.settings.role is Role.CLIENT:
        raise BadRequest(f"{directory.path} is the identity of a client; `gavel mount` uses it")

    def begun(message: Json) -> None:
        _collect_rarely()
        ready(message)

    with _alone(directory), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(directory, key, begun))


@contextlib.contextmanager
def _alone(directory: Directory) -> Any:
    """One process serves a directory."""
    with open(directory.path / "lock", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadRequest(
                f"another process serves {directory.path}; `gavel status {directory.path}` asks it"
            ) from None
        yield


async def _serve(directory: Directory, key: Key | None, ready: Callable[[Json], None]) -> None:
    if not directory.volume.exists():
        raise BadRequest(f"{directory.volume} is not there; put it back, or remove this node and let it join anew")
    device = open_device(str(directory.volume))
    try:
        daemon = Daemon(directory)
        try:
            await daemon.start(device, key)
            _on_signals(daemon)
            message = {"directory": str(directory.path), "node": directory.settings.node, "pid": os.getpid()}
            settings = directory.settings
            logs.event("serving", f"node {settings.node} serves at {settings.listen}", listen=settings.listen)
            notify.ready()
            ready(message)
            await daemon.over.wait()
        finally:
            notify.stopping()
            if daemon.over.is_set():
                logs.event("draining", "no new requests; those under way are answered")
            await daemon.close()
            if daemon.over.is_set():
                sound = "everything is durable" if daemon.sound else "not everything could be written"
                logs.event("ended", f"ended: {sound}")
    finally:
        device.close()


def _on_signals(daemon: Daemon) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.over.set)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)


class Daemon:
    """What belongs together while a node is served. `over` is set to end it."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.over = asyncio.Event()
        self.counters: Counter[str] = Counter()
        self._commits = Rate()
        self.news = News(directory.settings.node)
        self._incarnation = secrets.token_bytes(16)
        self._listening = tls.listening(directory.material)
        self._dialling = tls.dialling(directory.material)
        self.book = directory.book()
        self.trust = Trust(directory, self.book, self.reload)
        self.steward = Steward(self.book, directory.settings.node, self._dialling, random.random)
        self.master: Master | None = None
        self._closing: list[Callable[[], Any]] = []
        self._telling: set[asyncio.Task[None]] = set()
        self._background: list[asyncio.Task[None]] = []
        self.sound = True  # what was to be written was written
        self._certificate_ends = authority.ends(directory.material.certificate.read_bytes())

    def _party(self) -> Party:
        settings = self.directory.settings
        return Party(settings.cluster, settings.node, self._incarnation, settings.role, settings.name)

    async def start(self, device: Any, key: Key | None) -> None:
        """Open the volume, listen, dial."""
        settings = self.directory.settings
        steward = self.steward
        self.master = steward.master = master = Master(
            device,
            self._party(),
            key=key,
            founding=None if settings.node == FOUNDER else (),
            judge=steward.judge,
            told=steward.told,
            trusted=self.trust.told,
            linked=self._linked,
            asked_status=self._asked_status,
        )
        self._closing.append(master.close)
        master.replica.limit_catch_up(settings.catch_up_rate * 10**6)
        master.observed = self._observed
        listener = Listener(master.exchange, settings.listen, self._listening, self._door)
        await listener.start()
        self._closing.append(listener.close)
        self._know_myself(listener.port)
        calls: dict[str, Call] = {
            "status": self._status,
            "leases": self._leases,
            "role": self._role,
            "remove": self._remove,
            "reload": self._reload,
        }
        admin = Calls(self.directory.path / SOCKET, calls, self._tended(master))
        await admin.start()
        self._closing.append(admin.close)
        if settings.http:
            health = Health(settings.http, self.report, self.counters)
            await health.start()
            self._closing.append(health.close)
        steward.start()
        self._closing.append(steward.close)
        loop = asyncio.get_running_loop()
        self._background = [loop.create_task(self._tell_systemd()), loop.create_task(self._tell_news())]

    def _tended(self, master: Master) -> NodeService:
        """Upkeep of the volume, by itself when it is due and for whoever calls."""
        inside = InsideEngine(master)
        self._closing.append(inside.close)
        engine = ServedEngine(master, inside, CourseFile(self.directory.path / "upkeep.json"))
        self._closing.append(engine.close)
        engine.cleanup.put_off = lambda: self.news.behind
        if self.directory.settings.role is not Role.WITNESS:
            engine.cleanup.start()
        cluster = Cluster(inside, caller(), lambda: None)
        fs = Fs(engine, caller(), reaping=False)
        return NodeService(cluster, fs, master, self.directory.path, self.directory.volume)

    async def close(self) -> None:
        """End in order; the volume is closed cleanly unless it has failed."""
        for task in self._background:
            task.cancel()
        for task in self._telling:
            task.cancel()
        while self._closing:
            try:
                await self._closing.pop()()
            except GavelError as problem:
                self.sound = False
                logs.event("failed", f"while ending: {problem}", level=logging.ERROR)

    def reload(self) -> None:
        """Read the configuration and the certificate again; what is wrong with them is logged, and the old go on."""
        notify.reloading()
        try:
            fresh = Directory(self.directory.path)
            tls.reload(self._listening, fresh.material)
            tls.reload(self._dialling, fresh.material)
            self._certificate_ends = authority.ends(fresh.material.certificate.read_bytes())
            old = self.directory.settings
            if (fresh.settings.listen, fresh.settings.http) != (old.listen, old.http):
                log.warning("listen and http are changed by a restart only")
            self.directory = fresh
            if self.master is not None:
                self.master.party = self._party()
                self.master.replica.limit_catch_up(fresh.settings.catch_up_rate * 10**6)
                for link in self.master.peers.values():
                    self.trust.tell(link)
            self._know_myself(address_of(fresh.settings.address)[1])
            logs.event("reloaded", "configuration and certificate were read again")
        except GavelError as problem:
            logs.event("not reloaded", f"not reloaded: {problem}", level=logging.ERROR)
        notify.ready()

    def _linked(self, link: Link) -> None:
        self.steward.linked(link)
        self.trust.tell(link)

    def _door(self) -> Door:
        assert self.master is not None
        return Door(self.directory, self.book, self.steward.entered, self.master.replica.history.created_tid)

    def _know_myself(self, port: int) -> None:
        """Have the book say where this node is reached now."""
        settings = self.directory.settings
        mine = self.book.entries.get(settings.node)
        host, wanted = address_of(settings.address)
        address = f"{host}:{wanted or port}"
        if mine is not None and (mine.address, mine.name) != (address, settings.name):
            self.book.put(_changed(mine, address=address, name=settings.name))
            if self.master is not None:
                self.steward.spread()

    def _observed(self, name: str, fields: dict[str, Any]) -> None:
        self.counters[name] += 1
        level = _LEVELS.get(name, logging.INFO)
        about = {"peer" if field == "node" else field: value for field, value in fields.items()}
        logs.event(name, f"{name} {json.dumps(about, default=str)}", level=level, **about)

    async def _tell_news(self) -> None:
        """Log what changes about the cluster, as far as this node sees it."""
        assert self.master is not None
        await asyncio.sleep(_FIRST_NEWS_SECONDS)
        while True:
            status = await self.master.status()
            self._commits.note(status.get("commits", 0), time.monotonic())
            for one in self.news.look(status):
                logs.event(one.name, one.text, level=one.level, **one.fields)
            await asyncio.sleep(_NEWS_SECONDS)

    async def _tell_systemd(self) -> None:
        pause = notify.watchdog_seconds()
        while pause:
            notify.alive()
            await asyncio.sleep(pause)

    # Calls.

    async def report(self) -> Json:
        """How the cluster is, as `gavel status` shows it."""
        assert self.master is not None
        found = await report(self.master, self.book, self.steward)
        ends = {node: link.certificate_ends for node, link in self.master.peers.items()}
        ends[self.master.party.node] = self._certificate_ends
        note_ends(found["members"], ends, time.time())
        return {**found, "commits_per_second": self._commits.per_second}

    def _asked_status(self, question: requests.Status, answer: Callable[[requests.Answer], None]) -> None:
        async def told() -> None:
            answer(requests.Told(await (self._leases() if question.leases else self.report())))

        task = asyncio.get_running_loop().create_task(told())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _status(self) -> Json:
        return await self.report()

    async def _leases(self) -> Json:
        assert self.master is not None
        return await leases(self.master)

    async def _reload(self) -> Json:
        self.reload()
        return {}

    async def _role(self, node: int, role: str) -> Json:
        """promote and demote: what a node shall be from now on."""
        entry = self._member(node)
        if role not in ("master", "slave") or entry.role == Role.WITNESS:
            raise BadRequest("only masters and slaves take each other's place; invite a witness as such")
        if role == "slave":
            await self._keep_a_master(node)
        self.book.put(changed := _changed(entry, role=Role[role.upper()]))
        self.steward.entered(changed)
        return {"node": entry.node, "role": role}

    async def _remove(self, node: int) -> Json:
        """remove: a node leaves for good; its id and its certificate are worth nothing any more."""
        entry = self._member(node)
        if entry.node == self.directory.settings.node:
            raise BadRequest("a node cannot remove itself; ask another one to")
        await self._keep_a_master(node)
        self.book.put(changed := _changed(entry, removed=True))
        self.steward.entered(changed)
        return {"node": entry.node}

    async def _keep_a_master(self, node: int) -> None:
        """Refuse to take a node away without which no master would be left that votes, and is to go on doing so."""
        assert self.master is not None
        if self.master.replica.failure is not None:
            raise BadRequest(f"this node has stepped aside ({self.master.replica.failure}); ask another one")
        members = (await self.master.status()).get("members", ())
        voting = {one["node"] for one in members if one["role"] == "master"}
        staying = {entry.node for entry in self.book.members() if entry.role == Role.MASTER} & voting
        if not staying - {node}:
            raise BadRequest(
                f"without node {node} no master would be left that votes; promote another one first, and wait until "
                "`gavel status` shows it as a master"
            )

    def _member(self, node: int) -> Any:
        entry = self.book.entries.get(node)
        if entry is None or entry.removed:
            raise BadRequest(f"there is no node {node}; `gavel status` lists them")
        return entry


def _changed(entry: Any, **fields: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(entry, stamp=max(time.time_ns(), entry.stamp + 1), **fields)
