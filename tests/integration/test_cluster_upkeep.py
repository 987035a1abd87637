"""Operating a cluster of real processes: upkeep on nodes that serve, and a witness in its place; by the command."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

import gavel as api
from gavel.cli import output
from gavel.client.cluster import Cluster
from tests.integration.test_cluster import SIZE, WAIT, Served, edited, eventually, gavel

SECRET = os.urandom(6000)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.close()


def connect(served: Served, client: Path, *directories: Path) -> Cluster:
    """A client of the nodes in these directories, and of no others that the book of its identity may know."""
    (client / "book.json").write_text("[]")
    members = {one["node"]: one["url"] for one in served.status(directories[0])["members"]}
    own = [members[served.status(directory)["node"]] for directory in directories]
    with mock.patch.dict(os.environ, GAVEL_IDENTITY=str(client)):
        return api.connect("gavel://" + ",".join(url.removeprefix("gavel://") for url in own), patience=WAIT)


def test_upkeep_of_a_node_that_serves(served: Served) -> None:
    first = served.create("a", "--size", SIZE)
    served.start(first)
    second = served.join("b", first)
    served.start(second)
    eventually(lambda: served.roles(second) == {1: "master", 2: "master"})
    with connect(served, served.join("me", first, "client"), first) as fs:
        for number in range(5):
            fs.write_bytes("/file", os.urandom(5000 + number))
        fs.snapshot_create("named")
        fs.write_bytes("/file", SECRET)

        assert json.loads(gavel("info", str(first), "--json"))["node"] == 1
        assert "all is well" in gavel("check", str(second), "--deep")
        assert "nothing of it damaged" in gavel("scrub", str(first))
        gavel("retention", f"{second}:/", "all:1s,daily:7d")
        assert fs.retention("/").policy == "all:1s,daily:7d", "what one node sets is so for all"

        eventually(lambda: json.loads(gavel("prune", str(first), "--dry-run", "--json"))["versions"] >= 4)
        done = json.loads(gavel("prune", str(first), "--json"))
        assert done["versions"] >= 4 and done["node"] == 1
        horizon = fs.reaches().horizon
        assert horizon and fs.as_of("named").read_bytes("/file")
        info = json.loads(gavel("info", str(second), "--json"))
        assert int(info["horizon_tid"], 16) == horizon, "the horizon has moved everywhere"
        assert info["past_records"] > json.loads(gavel("info", str(first), "--json"))["past_records"]
        gavel("cleanup", str(second), "--only", "prune")
        assert json.loads(gavel("cleanup", str(second), "--show", "--json"))["tasks"][0]["note"]
        assert not json.loads(gavel("cleanup", str(first), "--show", "--json"))["tasks"][0]["note"], "each for itself"
        gavel("cleanup", str(second), "--set", "scrub=7d/1h")
        tasks = {one["task"]: one for one in json.loads(gavel("cleanup", str(first), "--show", "--json"))["tasks"]}
        assert tasks["scrub"]["every"] == 7 * 86_400, "but when, they decide together"

        more = served.base / "more"
        gavel("volume", "add", str(first), str(more), "--size", SIZE)
        gavel("reblock", str(first))
        gavel("dedup", str(first))
        gavel("volume", "remove", str(first), "1")
        assert len(json.loads(gavel("volume", "list", str(first), "--json"))["members"]) == 1
        assert "created" in gavel("history", f"{first}:/file")
        gavel("undo", f"{second}:/file", "--to", "named")
        assert fs.read_bytes("/file") == fs.as_of("named").read_bytes("/file")
        for directory in (first, second):
            assert "all is well" in gavel("check", str(directory), "--deep")

    process = served.processes["a"]
    process.terminate()
    assert process.wait(WAIT) == 0
    assert "all is well" in gavel("check", str(first))
    refused = gavel("prune", str(first), code=output.USAGE)
    assert "node of a cluster" in refused and "gavel serve" in refused
    served.start(first)
    eventually(lambda: served.roles(second) == {1: "master", 2: "master"})


def test_two_masters_and_a_witness(served: Served) -> None:
    first = served.create("a", "--size", SIZE)
    served.start(first)
    second, witness = served.join("b", first), served.join("w", first, "witness")
    served.start(second)
    edited(witness, "log", "json")
    served.start(witness)
    eventually(lambda: served.roles(second) == {1: "master", 2: "master", 3: "witness"})
    assert "witness" in gavel("status", str(witness))
    assert "witness" in gavel("cluster", "promote", "3", "--dir", str(first), code=output.USAGE)
    assert "keeps no data" in gavel("history", f"{witness}:/x", code=output.USAGE)
    assert "all is well" in gavel("check", str(witness))

    client = served.join("me", first, "client")
    with connect(served, client, witness, first, second) as fs:
        fs.write_bytes("/file", SECRET)
        served.processes["a"].kill()
        served.processes["a"].wait()
        fs.write_bytes("/other", SECRET)
        assert fs.read_bytes("/file") == SECRET
    eventually(lambda: served.roles(witness) == {2: "master", 3: "witness"})
    eventually(lambda: "member lost" in served.log(witness))  # it looks once a second
    served.start(first)
    eventually(lambda: len(served.roles(first)) == 3)
    with connect(served, client, first) as fs:
        assert fs.read_bytes("/other") == SECRET
    assert json.loads(gavel("info", str(witness), "--json"))["records"] == 0
    eventually(lambda: "member back" in served.log(witness))
    lines = [json.loads(line) for line in served.log(witness).splitlines()]
    assert all(one["node"] == 3 and one["time"] and one["message"] for one in lines)
    told = [(one["event"], one.get("peer")) for one in lines]
    assert told.count(("member lost", 1)) == told.count(("member back", 1)) == 1
    served.processes["w"].kill()
    served.processes["w"].wait()
    assert SECRET[:64] not in (witness / "volume.gavel").read_bytes()


def test_the_last_master_that_votes_stays(served: Served) -> None:
    """All masters could be demoted and removed, and nobody was left to decide anything for ever."""
    first = served.create("a", "--size", SIZE)
    served.start(first)
    second = served.join("b", first, "slave")
    served.start(second)
    eventually(lambda: served.roles(second) == {1: "master", 2: "slave"})
    for arguments in (("demote", "1"), ("remove", "1")):
        refused = gavel("cluster", *arguments, "--dir", str(second), code=output.USAGE)
        assert "no master would be left" in refused
    gavel("cluster", "promote", "2", "--dir", str(first))
    eventually(lambda: served.roles(second)[2] == "master")
    gavel("cluster", "rotate", str(second))
    assert gavel("cluster", "invite", str(second), "--role", "client"), "it has the authority's key now"
    gavel("cluster", "demote", "1", "--dir", str(second))
    refused = gavel("cluster", "demote", "2", "--dir", str(first), code=output.USAGE)
    assert "no master would be left" in refused, "also before the other demotion has come to pass"


def test_a_node_that_cannot_be_made_leaves_nothing_behind(served: Served, tmp_path: Path) -> None:
    too_small = gavel("cluster", "create", str(tmp_path / "a"), "--listen", "h:1", "--size", "5M", code=output.USAGE)
    assert "at least 96 MiB" in too_small and not (tmp_path / "a").exists()
    first = served.create("a", "--size", SIZE)
    served.start(first)
    (first / "volume.gavel").rename(tmp_path / "elsewhere")
    second = served.join("b", first)
    (second / "volume.gavel").unlink()
    assert "is not there; put it back" in gavel("serve", str(second), code=output.USAGE)
    port = served.status(first)["members"][0]["url"].rpartition(":")[2]
    third = tmp_path / "c"
    gavel("cluster", "create", str(third), "--listen", f"127.0.0.1:{port}", "--size", SIZE)
    assert "Address already in use" in gavel("serve", str(third), code=output.USAGE)
    edited(third, "listen", "127.0.0.1:0")
    edited(third, "http", f"127.0.0.1:{port}")
    assert "change `http` in node.toml" in gavel("serve", str(third), code=output.USAGE)


def test_status_says_when_there_is_no_majority_and_watch_goes_on(served: Served) -> None:
    first = served.create("a", "--size", SIZE)
    served.start(first)
    second = served.join("b", first)
    served.start(second)
    eventually(lambda: served.roles(second) == {1: "master", 2: "master"})
    assert "no majority" not in gavel("status", str(first))
    served.processes["b"].kill()
    eventually(lambda: "no majority: 1 of 2 voters" in gavel("status", str(first)))
    eventually(lambda: served.log(first).count("there is no majority") == 1)
    with mock.patch("time.sleep", side_effect=[None, KeyboardInterrupt]) as waits:
        (first / "admin.sock").rename(served.base / "s")
        assert gavel("status", str(first), "--watch", code=130).count("no daemon serves") == 2
    assert waits.call_count == 2


def test_a_new_authority_reaches_all_nodes_and_all_go_on_by_it(served: Served) -> None:
    first = served.create("a", "--size", SIZE)
    served.start(first)
    second, slave = served.join("b", first), served.join("c", first, "slave")
    served.start(second)
    roles = {1: "master", 2: "master", 3: "slave"}
    client = served.join("me", first, "client")
    book = (client / "book.json").read_bytes()
    gavel("cluster", "rotate", str(first), "--authority")
    key = (first / "identity" / "ca.key").read_bytes()
    eventually(lambda: (second / "identity" / "ca.key").read_bytes() == key)
    served.start(slave)  # it was not there
    eventually(lambda: (slave / "identity" / "ca.crt").read_bytes() == (first / "identity" / "ca.crt").read_bytes())
    assert not (slave / "identity" / "ca.key").exists()
    for directory in (client, slave, second, first):
        assert "is now" in gavel("cluster", "rotate", str(directory))
    for directory in (first, second, slave):
        process = served.processes[directory.name]
        process.terminate()
        assert process.wait(WAIT) == 0
        served.start(directory)
    eventually(lambda: served.roles(first) == served.roles(slave) == roles)
    (client / "book.json").write_bytes(book)
    with connect(served, client, first, second) as fs:
        fs.write_bytes("/file", SECRET)
    served.join("d", second, "client")


def test_a_client_that_is_pointed_at_a_witness_finds_a_master(served: Served) -> None:
    """It saw an empty filesystem."""
    first = served.create("a", "--size", SIZE)
    served.start(first)
    witness = served.join("w", first, "witness")
    served.start(witness)
    eventually(lambda: served.roles(first) == {1: "master", 2: "witness"})
    client = served.join("me", first, "client")
    with connect(served, client, first) as fs:
        fs.write_bytes("/file", SECRET)
    with connect(served, client, witness) as fs:
        assert fs.read_bytes("/file") == SECRET
        eventually(lambda: len(json.loads((client / "book.json").read_text())) == 2)
