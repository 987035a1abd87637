"""Start records: where they begin and what they carry, and which members no group can have."""

from typing import Any

import pytest

from gavel.errors import BadRequest
from gavel.quorum import epochs
from gavel.quorum.messages import Member, Sealed, TxId
from gavel.quorum.requests import Propose, Reconfigure
from gavel.quorum.votes import MASTER, WITNESS
from tests.transcripts.masters import Masters, body


def busy_group(count: int) -> Masters:
    group = Masters([1, 2, 3])
    group.run()
    for ticket in range(count):
        group.request(1, Propose(ticket, group.tx(1), body(b"k%d" % ticket)))
        group.run()
    return group


def record_of(group: Masters, answers: dict[int, Sealed]) -> Any:
    change = epochs.Change(1, [Member(1, MASTER)], 0)
    change.answers = answers
    return group.core(1).epochs._compose(change)


def sealed(group: Masters, number: int, **fields: Any) -> Sealed:
    core = group.core(number)
    known, since = core.epochs._known()
    values = {"known": known, "clock": core.desk.clock.tick, "stable": core.stable, "since": since, **fields}
    return Sealed(1, 0, None, **values)


def test_a_record_begins_where_the_last_of_a_majority_is_and_carries_the_rest() -> None:
    group = busy_group(3)
    tids = sorted(register.decided for register in group.core(1).registers.table.values())
    told = {1: sealed(group, 1), 2: sealed(group, 2, known=[], stable=tids[0], since=0)}
    record = record_of(group, told)
    assert record.stable == tids[0]
    assert sorted(value for _, value in record.carry) == tids[1:]


def test_a_record_begins_no_earlier_than_a_list_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "CARRY_RECENT", 1)
    group = busy_group(3)
    tids = sorted(register.decided for register in group.core(1).registers.table.values())
    told = {1: sealed(group, 1), 2: sealed(group, 2, known=[], stable=tids[0], since=0)}
    assert told[1].since == tids[1]
    record = record_of(group, told)
    assert (record.stable, [value for _, value in record.carry]) == (tids[1], [tids[2]])


def test_an_answer_of_a_former_release_begins_at_its_watermark() -> None:
    group = busy_group(3)
    tids = sorted(register.decided for register in group.core(1).registers.table.values())
    told = {1: sealed(group, 1, since=None), 2: sealed(group, 2, known=[], stable=tids[0], since=None)}
    assert record_of(group, told).stable == group.core(1).stable


def test_a_record_never_begins_before_the_former() -> None:
    group = busy_group(1)
    group.core(1).desk.start_stable = 1 << 62
    old = TxId(1, bytes(16), 1, 1)
    told = {n: sealed(group, n, stable=0, since=0, known=[(old, 0, 0, 5)]) for n in (1, 2)}
    record = record_of(group, told)
    assert (record.stable, record.carry) == (1 << 62, [])


def test_what_a_restart_and_a_snapshot_say_of_the_lists() -> None:
    group = busy_group(2)
    registers = group.core(2).registers
    lowest = min(register.decided for register in registers.table.values())
    assert registers.complete == 0
    registers.complete = lowest
    group.crash(2)
    group.start(2)
    assert group.core(2).registers.complete == 0  # the log still has what was forgotten
    group.core(2).registers.complete = lowest
    disk = group.nodes[2].disk
    disk.log[:] = [entry for entry in disk.log if entry[0] != "quorum"]
    disk.log += [("quorum", record) for record in group.core(2).snapshot()]
    disk.durable = len(disk.log)
    group.crash(2)
    group.start(2)
    assert group.core(2).registers.complete == lowest


@pytest.mark.parametrize("role", [MASTER, 2])
def test_a_witness_becomes_nothing_else(role: int) -> None:
    group = Masters([Member(1, MASTER), Member(2, MASTER), Member(3, WITNESS)])
    group.run()
    group.request(1, Reconfigure(7, [Member(1, MASTER), Member(2, MASTER), Member(3, role)]))
    assert [type(answer) for answer in group.answers(7)] == [BadRequest]
