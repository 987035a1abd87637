"""What a cluster of real processes does about bad input and trouble: each named in docs/guide/cluster.md, nothing lost.

One lab for all of them; each test leaves it whole. Ways that hit clients in the middle of their work are the nemesis'.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gavel
from gavel.client.cluster import Cluster
from gavel.errors import NotAMember, QuorumLost
from gavel.keys import tid as tids
from gavel.node.directory import Directory
from gavel.node.lab import _can_cut
from gavel.node.launch import Options, mount_in_background
from gavel.node.umount import unmount
from gavel.runtime import tls
from gavel.wire.connection import Connection, Party
from gavel.wire.frames import HEAD, MAGIC, SUM, Kind
from gavel.wire.messages import Role
from soak.labs import WAIT, TroubledLab, eventually, running
from soak.nemesis import YEAR_US, Nemesis
from soak.workers import Auditing, Counting, Listing, Registering, Saving, Transferring
from soak.workloads import Workload
from tests.integration.mount_daemon import needs_mount

pytestmark = [
    needs_mount,
    pytest.mark.mounts,
    pytest.mark.skipif(not _can_cut(), reason="network namespaces need root and ip(8)"),
]

PATIENCE = 2  # seconds, of a mount and of clients that shall give up
DISK = "96M"  # of the small disk
MUCH = 24 << 20  # bytes, more than is left in the big-block that is being written


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TroubledLab]:
    with running(tmp_path_factory.mktemp("trouble") / "lab") as lab:
        lab.whole()
        yield lab


@pytest.fixture
def fs(lab: TroubledLab) -> Iterator[Cluster]:
    """A client with patience, in a whole cluster; which is whole afterwards, too."""
    lab.whole()
    with gavel.connect(lab.url, patience=WAIT) as fs:
        yield fs
        fs.write_bytes("/last", b"last")
        lab.whole()
        lab.all_know(fs.tid())


def problem(lab: TroubledLab, number: int, by: int) -> str:
    """What is wrong with a node as another one, or it itself, sees it."""
    return lab.seen_by(by).get(f"n{number}", {}).get("problem") or ""


def role(lab: TroubledLab, number: int, by: int) -> str | None:
    """What a node is, as another one sees it."""
    return lab.seen_by(by).get(f"n{number}", {}).get("role")


@contextlib.contextmanager
def small_disk(lab: TroubledLab, number: int) -> Iterator[Path]:
    """A node's volume lies on a filesystem of DISK bytes meanwhile, which others use, too."""
    where, volume = lab.path / "small", lab.directory(number) / "volume.gavel"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(where)], check=True)
    try:
        lab.kill(number)
        move(volume, where / "volume.gavel")
        volume.symlink_to(where / "volume.gavel")
        lab.start(number)
        yield where
        lab.kill(number)
        volume.unlink()
        move(where / "volume.gavel", volume)
        lab.start(number)
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)
        where.rmdir()


def move(source: Path, target: Path) -> None:
    """Holes stay holes."""
    subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True)
    source.unlink()


def test_a_master_whose_disk_is_full_steps_aside_and_comes_back(lab: TroubledLab, fs: Cluster) -> None:
    with small_disk(lab, 1) as disk:
        lab.whole()
        with open(disk / "others", "wb", buffering=0) as others, contextlib.suppress(OSError):
            while True:
                others.write(bytes(1 << 20))
        content = os.urandom(MUCH)
        fs.write_bytes("/much", content)
        eventually(lambda: "full" in problem(lab, 1, by=1) and "full" in problem(lab, 1, by=2), "a full disk")
        assert lab.seen_by(1)["n1"]["role"] == "master"
        # The others go on; also with what would be its turn: it has the lowest id, and is linked.
        assert lab.add(Role.SLAVE) == 4
        eventually(lambda: role(lab, 4, by=2) == "slave", "one more")
        lab.remove(4)
        # But not with what would leave them without a majority.
        three = {"node": lab.seen_by(3)["n3"]["node"]}
        lab.ask("role", {**three, "role": "slave"}, but=1)
        eventually(lambda: "there would be no majority" in lab.log(2), "a change that waits")
        fs.write_bytes("/more", b"more")
        assert role(lab, 3, by=2) == "master"
        lab.kill(1)
        (disk / "others").unlink()
        lab.start(1)
        eventually(lambda: role(lab, 3, by=2) == "slave", "a slave")
        lab.ask("role", {**three, "role": "master"})
        lab.whole()
        assert fs.read_bytes("/much") == content
        fs.remove("/much")


def test_a_master_whose_disk_fails_says_so_and_the_others_go_on(lab: TroubledLab, fs: Cluster) -> None:
    lab.trouble(2, sync=True)
    fs.write_bytes("/during", b"all this")
    eventually(lambda: "failed to sync" in problem(lab, 2, by=1), "a disk that fails")
    lab.trouble(2)
    assert "failed to sync" in problem(lab, 2, by=2), "what a disk lost once is not trusted again by itself"
    assert "master failed" in lab.log(2)
    fs.write_bytes("/during", b"more")
    lab.kill(2)
    lab.trouble(2, read=True)
    with pytest.raises(Exception, match="failed to read"):
        lab.start(2)
    lab.trouble(2)
    lab.start(2)


@pytest.mark.parametrize("off", [YEAR_US, -YEAR_US], ids=["ahead", "behind"])
def test_a_clock_a_year_off_is_reported_and_not_followed(lab: TroubledLab, fs: Cluster, off: int) -> None:
    def on_time(tid: int) -> bool:
        return abs(tids.micros(tid) - time.time_ns() // 1000) < 60_000_000

    fs.write_bytes("/count", b"0")
    before = fs.tid()
    with gavel.connect(f"gavel://{lab.nodes[3]['address']}", patience=WAIT) as there:
        for restart in (False, True):
            if not restart:
                lab.trouble(3, clock_us=off)
            elif off < 0:
                lab.kill(3)
                lab.start(3)  # with a clock that is wrong from the beginning
            way = "ahead" if off > 0 else "behind"
            eventually(lambda way=way: way in problem(lab, 3, by=1) and way in problem(lab, 3, by=3), "an alarm")  # type: ignore[misc]
            assert not problem(lab, 1, by=3), "who is alone with a time is not right about the others"
            for client in (fs, there):
                client.run(lambda tx: tx.write_bytes("/count", b"%d" % (int(tx.read_bytes("/count")) + 1)))
            assert on_time(fs.tid()) and fs.tid() > before
    lab.trouble(3)
    eventually(lambda: not problem(lab, 3, by=1), "an end of the alarm")
    assert on_time(fs.tid())
    assert int(fs.read_bytes("/count")) == 4


def write_until_it_works(path: Path, content: bytes) -> None:
    """As a program does that has more patience than its mount."""
    while True:
        try:
            path.write_bytes(content)
            return
        except TimeoutError:
            pass


def test_without_a_majority_the_past_is_read_and_umount_works_and_then_all_goes_on(
    lab: TroubledLab, fs: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.write_bytes("/state", b"old")
    tid = fs.tid()
    fs.write_bytes("/state", b"new")
    toml = lab.identity / "node.toml"
    text = toml.read_text()
    toml.write_text(re.sub(r"^patience = \d+", f"patience = {PATIENCE}", text, flags=re.M))
    hasty = lab.mount_another()
    toml.write_text(text)
    patient = tmp_path / "patient"
    patient.mkdir()
    mount_in_background(Options(lab.url, str(patient)))
    then = os.open(hasty / f"@@{tid:#x}", os.O_PATH)
    waited = lab.mnt / "waited"
    waiting = threading.Thread(target=write_until_it_works, args=(waited, b"for a majority"))
    lost = (2, 3)
    try:
        for number in lost:
            lab.stop(number)
        with gavel.connect(lab.url, patience=PATIENCE) as hurried:
            for ask in (lambda: hurried.read_bytes("/state"), lambda: hurried.write_bytes("/hurried", b"")):
                began = time.monotonic()
                with pytest.raises(QuorumLost):
                    ask()
                assert time.monotonic() - began >= PATIENCE
            assert hurried.as_of(tid).read_bytes("/state") == b"old"
            assert hurried.as_of(f"{tid:#x}").listdir("/")
        waiting.start()
        assert waiting.is_alive()
        for ask in (hasty.joinpath("state").read_bytes, hasty.joinpath("fresh").touch):
            with pytest.raises(OSError) as caught:
                ask()
            assert caught.value.errno == errno.ETIMEDOUT
        with open(os.open("state", os.O_RDONLY, dir_fd=then), "rb") as file:
            assert file.read() == b"old"
        (tmp_path / "then").mkdir()
        mount_in_background(Options(lab.url, str(tmp_path / "then"), as_of=f"{tid:#x}"))
        assert (tmp_path / "then" / "state").read_bytes() == b"old"
        os.close(then)
        for directory in (tmp_path / "then", hasty, patient):
            done = unmount(str(directory))
            assert done["ended"] and done["clean"] and not done["lazy"], done
    finally:
        for number in lost:
            lab.cont(number)
    waiting.join(WAIT)
    assert waited.read_bytes() == b"for a majority", "without another mount"
    assert fs.read_bytes("/waited") == b"for a majority"


def test_a_restored_old_copy_of_a_volume_does_not_vote(lab: TroubledLab, fs: Cluster, tmp_path: Path) -> None:
    volume = lab.directory(3) / "volume.gavel"
    lab.kill(3)
    subprocess.run(["cp", "--sparse=always", str(volume), str(tmp_path / "copy")], check=True)
    lab.start(3)
    lab.whole()
    for number in range(30):
        fs.write_bytes("/later", b"%d" % number)
    lab.all_know(fs.tid())
    lab.kill(3)
    subprocess.run(["cp", "--sparse=always", str(tmp_path / "copy"), str(volume)], check=True)
    lab.start(3)
    eventually(lambda: all("old copy" in problem(lab, 3, by=number) for number in (1, 2, 3)), "a refusal")
    fs.write_bytes("/later", b"without it")
    lab.stop(2)
    with gavel.connect(lab.url, patience=PATIENCE) as hurried, pytest.raises((QuorumLost, NotAMember)):
        hurried.write_bytes("/later", b"with its vote")
    lab.cont(2)
    lab.kill(3)
    lab.start(3)  # it has not forgotten that it is one
    eventually(lambda: "old copy" in problem(lab, 3, by=3), "a refusal after a restart")
    lab.wipe(3)
    lab.whole()
    assert fs.read_bytes("/later") in (b"without it", b"with its vote")


def talk(lab: TroubledLab, say: Callable[[socket.socket], None]) -> None:
    """Have a conversation with node 1 as somebody with a client's identity; until it hangs up."""
    host, _, port = lab.nodes[1]["address"].rpartition(":")
    context = tls.dialling(Directory(lab.identity).material)
    with (
        socket.create_connection((host, int(port)), timeout=WAIT) as raw,
        context.wrap_socket(raw, server_hostname=host) as link,
    ):
        say(link)
        with contextlib.suppress(OSError):
            while link.recv(65536):
                pass


def greet(lab: TroubledLab, link: socket.socket) -> None:
    """Be welcome."""
    cluster = Directory(lab.identity).settings.cluster
    me = Connection(Party(cluster, 0, os.urandom(16), Role.CLIENT), dialled=True)
    link.sendall(b"".join(me.outgoing()))
    assert link.recv(65536)


def test_garbage_and_frames_that_are_too_large_hurt_nobody(lab: TroubledLab, fs: Cluster) -> None:
    host, _, port = lab.nodes[1]["address"].rpartition(":")
    head = HEAD.pack(MAGIC, 1, Kind.REQUEST, 0, 0, 1, 1 << 31)

    def too_large(link: socket.socket) -> None:
        greet(lab, link)
        link.sendall(head + SUM.pack(0))

    def garbage(link: socket.socket) -> None:
        greet(lab, link)
        link.sendall(os.urandom(5000))

    pid = lab.nodes[1]["pid"]
    for content in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(100_000)):
        with socket.create_connection((host, int(port)), timeout=WAIT) as raw, contextlib.suppress(OSError):
            raw.sendall(content)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                pass
    for say in (lambda link: link.sendall(os.urandom(5000)), garbage, too_large):
        before = lab.log(1).count("broke the protocol")
        talk(lab, say)
        eventually(lambda before=before: lab.log(1).count("broke the protocol") > before, "a line in the log")  # type: ignore[misc]
    assert lab.nodes[1]["pid"] == pid and lab.running(1)
    fs.write_bytes("/after", b"all is well")


def test_two_masters_and_a_witness_survive_the_loss_of_a_master_and_of_the_witness(tmp_path: Path) -> None:
    with running(tmp_path / "lab", masters=2) as lab:
        assert lab.add(Role.WITNESS) == 3
        lab.whole()
        kinds = (Counting, Transferring, Auditing, Registering, Registering, Listing, Listing, Saving)
        workload = Workload(lab, "/era", [lab.mnt], 1, kinds)
        with gavel.connect(lab.url, patience=WAIT) as fs:
            workload.found(fs)
        nemesis = Nemesis(lab, 1)
        try:
            workload.start()
            for victim in (1, 3):
                nemesis.some = lambda ends=False, victim=victim: victim  # type: ignore[method-assign, misc]
                nemesis.strike("kill", workload)
        finally:
            workload.stop()
        with gavel.connect(lab.url, patience=WAIT) as fs:
            workload.check(fs)
            lab.all_know(fs.tid())
        lab.down()
        for number in (1, 2):
            with gavel.open(str(lab.directory(number) / "volume.gavel"), read_only=True) as fs:
                workload.check(fs)
    shutil.rmtree(tmp_path / "lab")
