"""Founding a cluster and joining it: what is made, and everybody who is not let in, with the reason."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import uvloop

from gavel.errors import BadPeer, BadRequest, BadToken, Unreachable, Untrusted
from gavel.node import authority, joining, renewing, tokens, trust
from gavel.node.book import Entry
from gavel.node.directory import Directory
from gavel.node.joining import Door
from gavel.node.protocol import Json, Refused
from gavel.runtime import tls
from gavel.runtime.exchange import Exchange
from gavel.runtime.listener import Listener
from gavel.wire.connection import Party
from gavel.wire.messages import Role

CREATED = 0x1234 << 8
DAY = 86_400


@contextmanager
def serving(directory: Directory) -> Iterator[list[Entry]]:
    """A master with its door open, in a thread; its port is put into its directory. Who has entered."""
    entered: list[Entry] = []
    started, stop = threading.Event(), []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        settings = directory.settings
        me = Party(settings.cluster, settings.node, bytes(16), settings.role)
        exchange = Exchange(lambda: me, lambda arrivals: None)
        book = directory.book()
        listener = Listener(
            exchange,
            "127.0.0.1:0",
            tls.listening(directory.material),
            lambda: Door(directory, book, entered.append, CREATED),
        )
        await listener.start()
        directory.settings = settings._replace(address=f"127.0.0.1:{listener.port}")
        done = asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(done.set))
        started.set()
        await done.wait()
        await listener.close()
        exchange.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(20)
    try:
        yield entered
    finally:
        stop[0]()
        thread.join()


def founded(folder: Path) -> Directory:
    return joining.create(str(folder), "127.0.0.1:7400", name="one")


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in sorted((folder / "identity").iterdir())}


def test_the_first_master_has_all_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    made = founded(tmp_path / "a")
    again = Directory(tmp_path / "a")
    assert again.settings == made.settings
    assert (made.settings.node, made.settings.role, made.settings.address) == (1, Role.MASTER, "127.0.0.1:7400")
    assert modes(tmp_path / "a") == {"ca.crt": 0o600, "ca.key": 0o600, "node.pem": 0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert [entry.node for entry in made.book().members()] == [1]
    tls.listening(made.material)


def test_a_directory_is_made_where_there_is_nothing(tmp_path: Path) -> None:
    founded(tmp_path / "a")
    with pytest.raises(BadRequest, match="already"):
        founded(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with pytest.raises(BadRequest, match="not empty"):
        founded(tmp_path / "b")
    with pytest.raises(BadRequest, match="not the directory of a node"):
        Directory(tmp_path / "b")
    with pytest.raises(BadRequest, match="not an address"):
        joining.create(str(tmp_path / "c"), "nowhere")


@pytest.mark.parametrize("role", [Role.MASTER, Role.SLAVE, Role.WITNESS, Role.CLIENT])
def test_who_has_a_token_joins_once(tmp_path: Path, role: Role) -> None:
    first = founded(tmp_path / "a")
    with serving(first) as entered:
        line = joining.invite(first, role, 60)
        listen = "" if role is Role.CLIENT else "127.0.0.1:7500"
        made, created = joining.join(line, str(tmp_path / "b"), listen, name="two")
        assert created == CREATED
        assert made.settings.role is role
        assert made.settings.node == (0 if role is Role.CLIENT else 2)
        assert made.authority_key.exists() == (role is Role.MASTER)
        assert authority.holder(made.material.certificate.read_bytes()) == tls.Proven(
            first.settings.cluster, role, made.settings.node
        )
        assert Directory(tmp_path / "b").settings == made.settings
        assert [entry.node for entry in made.book().members()] == ([1] if role is Role.CLIENT else [1, 2])
        assert [entry.node for entry in entered] == ([] if role is Role.CLIENT else [2])
        with pytest.raises(Refused, match="used already"):
            joining.join(line, str(tmp_path / "c"), listen)
        tls.dialling(made.material)


def test_a_new_master_can_invite(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    with serving(first):
        second = joining.join(joining.invite(first, Role.MASTER, 60), str(tmp_path / "b"), "127.0.0.1:7500").directory
    with serving(second):
        third = joining.join(joining.invite(second, Role.SLAVE, 60), str(tmp_path / "c"), "127.0.0.1:7600").directory
    assert third.settings.node == 3
    with pytest.raises(BadRequest, match="does not have the key"):
        joining.invite(third, Role.SLAVE, 60)


def test_a_token_that_expired_is_refused_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = founded(tmp_path / "a")
    with serving(first):
        token = tokens.parse(joining.invite(first, Role.SLAVE, -1))
        with pytest.raises(BadToken, match="has expired"):
            joining.join(tokens.text(token), str(tmp_path / "b"), "127.0.0.1:7500")
        later = tokens.text(token._replace(expires=int(time.time()) + 60))
        with pytest.raises(Refused, match="has expired"):
            joining.join(later, str(tmp_path / "b"), "127.0.0.1:7500")


def test_a_token_of_another_master_is_not_known(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    with serving(first):
        token = tokens.parse(joining.invite(first, Role.SLAVE, 60))
        with pytest.raises(Refused, match="not known"):
            joining.join(tokens.text(token._replace(secret=bytes(32))), str(tmp_path / "b"), "127.0.0.1:7500")


def test_the_secret_is_told_to_nobody_else_than_the_cluster_of_the_token(tmp_path: Path) -> None:
    """Another cluster listens at the address; then one that shows the right authority with a certificate of its own."""
    first, other = founded(tmp_path / "a"), founded(tmp_path / "x")
    with serving(other):
        token = tokens.parse(joining.invite(first, Role.SLAVE, 60))._replace(address=other.settings.address)
        for pem in (other.material.authorities.read_bytes(), first.material.authorities.read_bytes()):
            other.material.authorities.write_bytes(pem)
            with pytest.raises(Untrusted, match="not of the cluster"):
                joining.join(tokens.text(token), str(tmp_path / "b"), "127.0.0.1:7500")
    assert first.tokens.nodes() == other.tokens.nodes() == set()


def test_a_node_of_the_same_authority_and_another_cluster_is_not_believed(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    with serving(first):
        token = tokens.parse(joining.invite(first, Role.SLAVE, 60))._replace(cluster=bytes(16))
        with pytest.raises(Untrusted, match="not of the cluster"):
            joining.join(tokens.text(token), str(tmp_path / "b"), "127.0.0.1:7500")


def test_nobody_there_is_said_and_a_master_needs_an_address(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    token = tokens.parse(joining.invite(first, Role.SLAVE, 60))._replace(address="127.0.0.1:1")
    with pytest.raises(Unreachable, match="nothing listens"):
        joining.join(tokens.text(token), str(tmp_path / "b"), "127.0.0.1:7500")
    with pytest.raises(BadRequest, match="a slave, which others connect to; add --listen"):
        joining.join(tokens.text(token), str(tmp_path / "c"))
    with pytest.raises(BadRequest, match="a client, which nobody connects to"):
        joining.join(tokens.text(token._replace(role=Role.CLIENT)), str(tmp_path / "c"), "h:1")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (b"", "not known"),
        (b"no json\n", "not JSON"),
        (b"x" * 200_000, "length of a request to join"),
        (b'{"request": "no request", "address": "h:1", "name": "n"}\n', "no request for a certificate"),
        (b'{"request": "", "address": "nowhere", "name": "n"}\n', "not an address"),
        (b'{"request": "", "address": "h:1", "name": "' + b"n" * 300 + b'"}\n', "length of a name"),
    ],
)
def test_whatever_comes_through_the_door_is_judged_and_answered(tmp_path: Path, after: bytes, why: str) -> None:
    first = founded(tmp_path / "a")
    token = tokens.parse(joining.invite(first, Role.SLAVE, 60))

    with serving(first) as entered:
        assert why in asyncio.run(knocking(first, (token.secret if after else bytes(32)) + after)).decode()
        assert not entered
        joining.join(joining.invite(first, Role.SLAVE, 60), str(tmp_path / "b"), "127.0.0.1:7500")


async def knocking(directory: Directory, said: bytes) -> bytes:
    """What a door answers to who has no certificate and says this."""
    context = tls.ssl.SSLContext(tls.ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, tls.ssl.CERT_NONE
    context.set_alpn_protocols([tls.JOIN])
    host, port = tls_address(directory)
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    await reader.readline()
    writer.write(said)
    answer = await reader.readline()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


def tls_address(directory: Directory) -> tuple[str, int]:
    host, _, port = directory.settings.address.rpartition(":")
    return host, int(port)


def test_a_renewed_certificate_is_for_the_same_node(tmp_path: Path) -> None:
    made = founded(tmp_path / "a")
    before = made.material.certificate.read_bytes()
    renewing.renew(made)
    after = made.material.certificate.read_bytes()
    assert after != before
    assert authority.holder(after) == authority.holder(before)
    tls.listening(made.material)


@pytest.mark.parametrize("role", [Role.SLAVE, Role.WITNESS, Role.CLIENT])
def test_who_has_no_key_of_the_authority_gets_a_certificate_from_a_master(tmp_path: Path, role: Role) -> None:
    first = founded(tmp_path / "a")
    with serving(first):
        listen = "" if role is Role.CLIENT else "127.0.0.1:7500"
        made = joining.join(joining.invite(first, role, 60), str(tmp_path / "b"), listen).directory
        book = made.book()
        book.put(msgspec.structs.replace(book.entries[1], address=first.settings.address))
        before = made.material.certificate.read_bytes()
        renewing.renew(made)
        after = made.material.certificate.read_bytes()
        assert after != before and authority.holder(after) == authority.holder(before)
        assert not made.authority_key.exists()
        renewing.renew(made)  # by the new one
    with pytest.raises(Unreachable):
        renewing.renew(made)
    assert made.material.certificate.read_bytes() != after, "what cannot be renewed stays"
    tls.dialling(made.material)


def test_a_removed_node_gets_no_new_certificate_and_a_promoted_one_the_key(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    made = []
    with serving(first):
        for name in ("b", "c"):
            made.append(joining.join(joining.invite(first, Role.SLAVE, 60), str(tmp_path / name), "h:1").directory)
    book = first.book()
    book.put(msgspec.structs.replace(book.entries[2], removed=True))
    book.put(msgspec.structs.replace(book.entries[3], role=Role.MASTER))
    with serving(first):
        for one in made:
            one.book().put(msgspec.structs.replace(one.book().entries[1], address=first.settings.address))
        with pytest.raises(Refused, match="was removed"):
            renewing.renew(made[0])
        renewing.renew(made[1])
        assert made[1].authority_key.read_bytes() == first.authority_key.read_bytes()


def test_who_shows_no_certificate_gets_no_new_one(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    other = founded(tmp_path / "x")
    with serving(first):
        assert b"no certificate of this cluster" in asyncio.run(knocking(first, joining.RENEW + b"{}\n"))
        other.book().put(msgspec.structs.replace(other.book().entries[1], address=first.settings.address))
        other.authority_key.unlink()
        with pytest.raises(Untrusted, match="not issued by this cluster"):
            renewing.renew(other)


def test_an_expired_certificate_is_called_so(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    with serving(first):
        made = joining.join(joining.invite(first, Role.SLAVE, 60), str(tmp_path / "b"), "h:1").directory
    for whose in (made, first):
        key, wanted = authority.request()
        who = authority.holder(whose.material.certificate.read_bytes())
        past = datetime(2021, 1, 1, tzinfo=UTC)
        ended = authority.certify(joining.authority_of(first), wanted, who, past)
        whose.material.certificate.write_bytes(ended + key)
        assert authority.ends(ended) == int(past.timestamp())
        with serving(first):
            made.book().put(msgspec.structs.replace(made.book().entries[1], address=first.settings.address))
            with pytest.raises(Untrusted, match="expired"):
                renewing.renew(made)


def test_status_says_when_a_certificate_is_to_be_renewed() -> None:
    members: list[Json] = [{"node": node, "problem": None} for node in (1, 2, 3, 4)]
    renewing.note_ends(members, {1: 100 * DAY, 2: 10 * DAY, 3: DAY}, 5 * DAY)
    assert [one["certificate_until"] for one in members] == ["1970-04-11", "1970-01-11", "1970-01-02", None]
    assert [one["problem"] and one["problem"].split(";")[0] for one in members] == [
        None, "its certificate ends on 1970-01-11", "its certificate ended on 1970-01-02", None,
    ]  # fmt: skip


def test_a_new_authority_signs_and_the_former_is_trusted_until_the_next(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    with serving(first):
        made = joining.join(joining.invite(first, Role.CLIENT, 60), str(tmp_path / "b")).directory
        made.book().put(msgspec.structs.replace(made.book().entries[1], address=first.settings.address))
        assert trust.replace_authority(first) == 2
        assert [authority.number(one) for one in authority.split(first.material.authorities.read_bytes())] == [2, 1]
    with serving(first):
        line = joining.invite(first, Role.SLAVE, 60)
        other = joining.join(line, str(tmp_path / "c"), "h:1").directory
        assert authority.number(other.material.authorities.read_bytes()) == 2, "by a master that shows the former yet"
        made.book().put(msgspec.structs.replace(made.book().entries[1], address=first.settings.address))
        renewing.renew(made)
    renewing.renew(first)
    assert trust.replace_authority(first) == 3
    with serving(first):
        for one in (made, other):
            one.book().put(msgspec.structs.replace(one.book().entries[1], address=first.settings.address))
        renewing.renew(made)
    renewing.renew(first)
    assert [authority.number(one) for one in authority.split(first.material.authorities.read_bytes())] == [3, 2]
    with serving(first):
        other.book().put(msgspec.structs.replace(other.book().entries[1], address=first.settings.address))
        with pytest.raises(Untrusted, match="not issued by this cluster"):
            renewing.renew(other)


def test_whom_to_trust_is_believed_from_masters_only(tmp_path: Path) -> None:
    first = founded(tmp_path / "a")
    with serving(first):
        made = [
            joining.join(joining.invite(first, role, 60), str(tmp_path / role.name), "h:1").directory
            for role in (Role.MASTER, Role.SLAVE)
        ]
    trust.replace_authority(first)
    sent: list[tuple[int, bytes]] = []
    for node, directory in ((2, made[0]), (3, made[1])):
        changes: list[int] = []
        link: Any = SimpleNamespace(node=node, carry=lambda channel, body, node=node: sent.append((node, body)))
        trust.Trust(first, first.book(), lambda: None).tell(link)
        here = trust.Trust(directory, directory.book(), partial(changes.append, 1))
        before = directory.material.authorities.read_bytes()
        here.told(3, memoryview(sent[-1][1]))
        assert directory.material.authorities.read_bytes() == before and not changes, "node 3 is a slave"
        here.told(1, memoryview(sent[-1][1]))
        here.told(1, memoryview(sent[-1][1]))
        assert directory.material.authorities.read_bytes() == first.material.authorities.read_bytes() and changes == [1]
        assert directory.authority_key.exists() == (node == 2)
        with pytest.raises(BadPeer):
            here.told(1, memoryview(b"garbage"))
    assert made[0].authority_key.read_bytes() == first.authority_key.read_bytes()
    assert joining.authority_of(made[0]).key == first.authority_key.read_bytes()
