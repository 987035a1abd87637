"""Whole masters, joined by a small loop: commits from all, collisions, crashes, absence, file data."""

import re
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import pytest

from gavel.effects import Requested
from gavel.errors import BadRequest, NotAMember, QuorumLost, VolumeFull
from gavel.limits import REPLAY_RECORDS_MAX, STAGED_LIFE_NS
from gavel.media.volume import Volume
from gavel.replica import journal
from gavel.replica.journal import QUORUM
from gavel.sim.device import SimDevice
from gavel.transaction import portable
from gavel.transaction.requests import (
    Barrier,
    Collided,
    Commit,
    Committed,
    Data,
    Done,
    Dropped,
    Fetch,
    Found,
    Look,
    Looked,
    Status,
    Told,
)
from tests.unit.replica.group import Group
from tests.unit.replica.masters import blob, data_key, key, shows, stage

CONTENT = b"0123456789" * 1000


@pytest.fixture
def group() -> Group:
    made = Group()
    made.run(200)
    return made


def test_commits_from_all_masters_are_one_history(group: Group) -> None:
    tids = []
    for number in range(30):
        answer = group.submit(1 + number % 3, {key(f"{number % 4}"): b"%d" % number})
        assert isinstance(answer, Committed)
        tids.append(answer.tid)
    assert tids == sorted(tids), "acknowledged before the next began"
    group.settle()
    for node in group.nodes:
        assert group.look(node, key(""), key("~")) == {key(f"{n % 4}"): b"%d" % n for n in (26, 27, 28, 29)}


def test_of_contenders_the_first_wins_and_everybody_hears_the_same(group: Group) -> None:
    assert isinstance(group.submit(1, {key("counter"): b"0"}), Committed)
    looked = group.answer(2, Look([(key("counter"), key("counter~"), 0)]))
    assert isinstance(looked, Looked)
    read = (key("counter"), key("counter") + b"\0", looked.at)
    tickets = [group.ask(node, group.submission(node, {key("counter"): b"%d" % node}, [read])) for node in (1, 2, 3)]
    group.run(500)
    outcomes = [group.answers.pop(ticket) for ticket in tickets]
    assert [type(outcome) for outcome in outcomes].count(Committed) == 1
    winner = next(outcome.tid for outcome in outcomes if isinstance(outcome, Committed))
    assert all(outcome == Collided(key("counter"), winner, looked.at) for outcome in outcomes if outcome.tid != winner)
    group.settle()


def test_asked_again_at_another_master_it_happens_once(group: Group) -> None:
    submission = group.submission(1, {key("a"): b"1"})
    first = group.answer(1, submission)
    assert isinstance(first, Committed)
    assert group.answer(2, submission) == first
    group.run(120_000)
    assert group.answer(3, submission) == first, "also when its register is long gone"
    group.settle()
    assert len(group.up[3].history.versions(key("a"))) == 1


def test_one_dies_in_the_middle_and_comes_back(group: Group) -> None:
    for number in range(10):
        group.submit(1 + number % 3, {key(f"{number}"): b"before"})
    group.ask(2, group.submission(2, {key("last words"): b"?"}))
    group.crash(2)
    for number in range(10):
        assert isinstance(group.submit(1, {key(f"{number}"): b"meanwhile"}), Committed)
    group.start(2)
    group.settle()
    assert isinstance(group.submit(2, {key("again"): b"here"}), Committed)
    group.settle()
    assert group.look(2, key("0"), key("1")) == {key("0"): b"meanwhile"}


@pytest.mark.parametrize("keep", [0.0, None, 1.0])
def test_all_die_and_nothing_acknowledged_is_lost(group: Group, keep: float | None) -> None:
    for number in range(20):
        assert isinstance(group.submit(1 + number % 3, {key(f"{number:02}"): b"x"}), Committed)
        if number == 12:
            group.checkpoint(1)
    group.checkpoint(3)
    assert isinstance(group.submit(2, {key("20"): b"x"}), Committed)
    for node in group.nodes:
        group.crash(node, keep)
    for node in group.nodes:
        group.start(node)
    group.run(3000)
    assert list(group.look(1, key("0"), key("~"))) == [key(f"{number:02}") for number in range(21)]
    group.settle()


def test_an_absent_master_catches_up_and_an_empty_one_takes_its_place() -> None:
    group = Group(3, spares=1)
    group.run(200)
    for number in range(5):
        group.submit(1, {key(f"{number}"): b"x" * 100})
    group.crash(3)
    for number in range(60):
        group.submit(1 + number % 2, {key(f"{number % 9}"): b"y" * number})
    group.run(60_000)
    group.start(3)
    group.run(2000)
    group.reconfigure(1, 1, 2, 3, 4)
    group.settle()
    group.crash(3)
    group.reconfigure(2, 1, 2, 4)
    assert isinstance(group.submit(4, {key("new"): b"z"}), Committed)
    group.settle()
    assert group.look(4, key("new"), key("new~")) == {key("new"): b"z"}


def test_file_data_is_everywhere_before_its_record_is(group: Group) -> None:
    assert group.answer(1, stage(1, CONTENT)) == Done()
    name = blob(1, CONTENT)[16:]
    assert isinstance(group.submit(1, {data_key(5, 10_000): shows(1, CONTENT)}, blobs=[name]), Committed)
    group.settle()
    for node in group.nodes:
        found = group.answer(node, Data([data_key(5, 10_000)], group.up[node].last_tid))
        assert found == Found([(0, CONTENT)])
    then = group.up[1].last_tid
    group.submit(2, {data_key(5, 10_000): None})
    part = portable.kept(data_key(5, 10_000), then, 10_000, 5, 10, name[-16:])
    assert isinstance(group.submit(3, {data_key(6, 10): part}), Committed)
    group.settle()
    group.run(1000)
    assert not any(len(replica._staging) for replica in group.up.values())


def test_file_data_lost_on_its_way_is_asked_for(group: Group) -> None:
    group.lose = lambda source, target, message: message[:1] == b"\1" and source == 1
    group.ask(1, stage(1, CONTENT))
    group.run(5)
    writes, blobs = {data_key(5, 10_000): shows(1, CONTENT)}, [blob(1, CONTENT)[16:]]
    ticket = group.ask(1, group.submission(1, writes, blobs=blobs))
    group.run(300)
    assert not isinstance(group.answers.get(ticket), Committed), "nobody promises what is not here"
    group.lose = lambda source, target, message: False
    group.run(3000)
    if isinstance(group.answers[ticket], Dropped):  # others have ended what did not get on
        assert isinstance(group.submit(2, writes, blobs=blobs), Committed)
    group.settle()


def test_who_lacks_file_data_that_all_others_have_done_with_catches_up(group: Group) -> None:
    """They have dropped what was staged when it was committed; else the one without it would wait for ever."""
    group.lose = lambda source, target, message: message[:1] == b"\1" and target == 3
    group.answer(1, stage(1, CONTENT))
    assert isinstance(
        group.submit(1, {data_key(5, 10_000): shows(1, CONTENT)}, blobs=[blob(1, CONTENT)[16:]]), Committed
    )
    group.run(1000)
    assert isinstance(group.submit(2, {key("on"): b"1"}), Committed)
    group.settle()
    assert group.answer(3, Data([data_key(5, 10_000)], group.up[3].last_tid)) == Found([(0, CONTENT)])


def test_a_master_that_is_full_steps_aside_and_says_so(group: Group) -> None:
    """It cannot execute what the others decide; they go on."""
    full = group.up[3]
    append = full.volume.append

    def no_room(kind: int, body: bytes, reserve: bool = False) -> int:
        from gavel.errors import VolumeFull

        if not reserve:
            raise VolumeFull(0, len(body))
        return append(kind, body, reserve)

    full.volume.append = no_room  # type: ignore[method-assign]
    assert isinstance(group.submit(1, {key("a"): b"1"}), Committed)
    group.run(100)
    told = group.answer(3, Status())
    assert isinstance(told, Told) and "full" in told.fields["failure"]
    assert isinstance(group.submit(2, {key("b"): b"2"}), Committed)
    group.crash(3)
    group.start(3)
    group.settle()


def frames(device: SimDevice) -> Counter[int]:
    """How many frames of each kind the log of a volume has."""
    volume = Volume.open(device.crash(keep=1.0), read_only=True)
    return Counter(kind for kind, _, _ in volume.replay())


def test_a_witness_votes_and_keeps_neither_file_data_nor_history() -> None:
    group = Group(3, witnesses=[3])
    group.run(200)
    for number in range(1, 4):
        group.answer(1, stage(number, CONTENT))
        shown = {data_key(5, 10_000): shows(number, CONTENT), key(f"n{number}"): b"secret"}
        assert isinstance(group.submit(1, shown, blobs=[blob(number, CONTENT)[16:]]), Committed)
    group.crash(1)
    group.run(500)
    assert isinstance(group.submit(2, {key("on"): b"secret"}), Committed), "with it the other one goes on"
    group.run(1000)
    witness = group.up[3]
    assert witness.history.last_tid == 0 and not list(witness.history.scan(b"", b"\xff" * 16))
    assert len(witness._staging) == 0 and set(frames(group.devices[3])) == {QUORUM}
    assert b"secret" not in group.devices[3].read(0, group.devices[3].size())
    for question in (Look([(b"", b"\xff" * 16, 0)]), Fetch([(b"", b"\xff")], 1), stage(9, CONTENT)):
        refused = group.answer(3, question)
        assert isinstance(refused, NotAMember) and "witness" in str(refused)
    assert isinstance(group.answer(3, Status()), Told)
    group.start(1)
    group.run(2000)
    assert group.look(1, key("on"), key("on~")) == {key("on"): b"secret"}


def test_what_the_quorum_writes_alone_is_checkpointed_too() -> None:
    """A witness, or a master to whom nobody writes, has a log that grows by a few words every second."""
    group = Group(3, witnesses=[3])
    group.run(200)
    witness = group.up[3]
    witness.volume.note_records(REPLAY_RECORDS_MAX + 1)
    group.run(3000)
    assert witness.volume.replay_size[1] < REPLAY_RECORDS_MAX


def test_status_tells_who_is_up_and_how_far() -> None:
    group = Group()
    group.run(200)
    group.submit(1, {key("a"): b"1"})
    group.crash(2)
    group.run(500)
    told = group.answer(1, Status())
    assert isinstance(told, Told)
    assert [(member["node"], member["role"], member["up"]) for member in told.fields["members"]] == [
        (1, "master", True), (2, "master", False), (3, "master", True),
    ]  # fmt: skip
    assert told.fields["last_tid"] == group.up[1].last_tid and told.fields["catch_up"] is None


def test_a_group_of_one_serves_clients_durably_and_becomes_many() -> None:
    group = Group(1, spares=2)
    group.run(100)
    group.answer(1, stage(1, CONTENT))
    assert isinstance(
        group.submit(1, {data_key(5, 10_000): shows(1, CONTENT)}, blobs=[blob(1, CONTENT)[16:]]), Committed
    )
    group.crash(1)
    group.start(1)
    assert list(group.look(1, data_key(5, 0), data_key(6, 0))) == [data_key(5, 10_000)]
    group.step(1, Requested(Commit(-1, [key("local")], [b"1"])))
    group.step(1, Requested(Barrier(-2)))
    group.run(10)
    assert group.answers.pop(-1) == group.answers.pop(-2) == group.up[1].last_tid
    group.reconfigure(1, 1, 2, 3)
    assert isinstance(group.submit(3, {key("b"): b"1"}), Committed)
    group.settle()
    group.step(1, Requested(Commit(-3, [key("local")], [b"2"])))
    assert isinstance(group.answers.pop(-3), BadRequest)
    group.crash(1)
    assert isinstance(group.submit(2, {key("c"): b"1"}), Committed)
    assert group.look(3, key("local"), key("local~")) == {key("local"): b"1"}


def test_a_group_of_one_keeps_no_registers() -> None:
    """Nobody else votes, so there is nothing to remember but outcomes; else memory would grow with every commit."""
    group = Group(1)
    group.run(100)
    submissions = [group.submission(1, {key(f"{number}"): b"x"}) for number in range(20)]
    tickets = [group.ask(1, submission) for submission in submissions]
    group.run(100)
    assert all(isinstance(group.answers[ticket], Committed) for ticket in tickets)
    registers = group.up[1].quorum.registers
    assert not registers.table and not registers.listed and not registers.undecided
    assert group.answer(1, submissions[7]) == group.answers[tickets[7]]


def test_what_was_staged_for_nothing_is_dropped_and_what_may_be_needed_is_not(group: Group) -> None:
    group.answer(1, stage(1, CONTENT))
    group.answer(1, stage(2, CONTENT + b"!"))
    for node in (2, 3):
        group.crash(node)
    name = blob(1, CONTENT)[16:]
    ticket = group.ask(1, group.submission(1, {data_key(5, 10_000): shows(1, CONTENT)}, blobs=[name]))
    group.run(STAGED_LIFE_NS // 1_000_000 + 1000)
    group.checkpoint(1)
    assert [held[:20] for held in group.up[1].quorum.needs()] == [blob(1, CONTENT)[:20]]
    assert list(group.up[1]._staging._held) == [blob(1, CONTENT)]
    assert isinstance(group.answers.pop(ticket), QuorumLost), "no quorum, for as long as its patience lasts"
    for node in (2, 3):
        group.start(node)
    group.run(60_000)
    group.checkpoint(1)
    assert not list(group.up[1].quorum.needs()) and not len(group.up[1]._staging)
    group.settle()


def test_the_page_names_the_frames_as_the_code_does() -> None:
    page = (Path(__file__).parents[3] / "docs/internals/replica.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([A-Z]+) \|", page, re.MULTILINE)
    assert [(name, int(kind)) for kind, name in rows] == [
        (name, getattr(journal, name)) for name in ("COMMIT", "PART", "QUORUM", "STAGED")
    ]


def test_what_the_log_said_before_a_checkpoint_is_known_after_it() -> None:
    """Who the members are, and what is staged: neither is in the trees."""
    group = Group(1, spares=2)
    group.run(100)
    group.reconfigure(1, 1, 2, 3)
    group.answer(2, stage(1, CONTENT))
    for _ in range(2):
        for node in group.nodes:
            group.checkpoint(node)
    for node in group.nodes:
        group.crash(node)
    for node in group.nodes:
        group.start(node)
    group.run(3000)
    assert [len(replica._staging) for replica in group.up.values()] == [1, 1, 1]
    group.lose = lambda source, target, message: message[:1] == b"\1"
    writes, blobs = {data_key(5, 10_000): shows(1, CONTENT)}, [blob(1, CONTENT)[16:]]
    assert isinstance(group.submit(3, writes, blobs=blobs), Committed)
    group.settle()


def test_file_data_that_finds_no_room_makes_a_checkpoint_due(group: Group) -> None:
    """Else a volume that is full of what is dead by now would stay full."""
    volume = group.up[1].volume
    group.answer(1, stage(1, CONTENT))
    generation = volume._header.generation
    with patch.object(volume, "append_data", side_effect=VolumeFull(0, 1)):
        answer = group.answer(1, stage(2, CONTENT + b"!"))
    assert isinstance(answer, VolumeFull)
    group.run(100)
    assert volume._header.generation == generation + 1
    assert group.answer(1, stage(2, CONTENT + b"!")) == Done()
