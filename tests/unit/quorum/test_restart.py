"""What the ledger brings back: replay, snapshots, bodies, catching up that was cut short, promises that wait."""

from typing import Any

import pytest

from gavel.effects import Requested, Sync
from gavel.errors import Damaged
from gavel.quorum import entries
from gavel.quorum import messages as m
from gavel.quorum.machine import Committed
from gavel.quorum.messages import Body, Member
from gavel.quorum.quorum import Quorum
from gavel.quorum.requests import Propose, Reconfigure
from gavel.quorum.votes import MASTER, SLAVE
from tests.transcripts.masters import START, Disk, Masters, ToyMachine, body


def knowledge(core: Quorum) -> dict[str, Any]:
    """What of a core must survive."""
    registers = {
        tx: (r.promised, r.proposal, r.accepted, r.value, r.decided, None if r.executed else r.body, r.low)
        for tx, r in core.registers.table.items()
    }
    desk = core.desk
    return {
        "registers": registers,
        "epoch": (desk.epoch, desk.electorate.members, desk.start_stable),
        "position": desk.position,
        "reserved": desk.clock.reserved,
        "sealed": (core.epochs.sealed_at, core.epochs._promised, core.epochs._accepted, core.epochs._backed),
        "informed": core.catch_ups.informed,
        "complete": max(core.registers.complete, core._complete or 0),
    }


def replayed(group: Masters, number: int, records: list[bytes]) -> Quorum:
    disk = Disk()
    disk.log = [item for item in group.nodes[number].disk.log if item[0] != "quorum"]
    core = Quorum(number, disk, ToyMachine(disk), group.founding)
    for record in records:
        core.replay(record)
    core.watermark.resume()
    return core


@pytest.mark.parametrize("sealed", [False, True])
def test_a_snapshot_says_all_that_the_log_said(sealed: bool) -> None:
    group = Masters([1, 2, 3], outsiders=[4])
    group.run()
    for ticket in range(4):
        group.request(1 + ticket % 3, Propose(ticket, group.tx(1 + ticket % 3), body(b"k%d" % ticket)))
    group.run()
    group.request(1, Reconfigure(9, [Member(n, MASTER) for n in (1, 2, 3)] + [Member(4, SLAVE)]))
    group.run()
    group.wait(1500)
    group.request(2, Propose(10, group.tx(2), body(b"open")))
    group.deliver(0)
    if sealed:
        group.request(1, Reconfigure(11, [Member(n, MASTER) for n in (1, 2)]))
        for _ in range(6):
            group.deliver()
    for number in (1, 2, 3):
        core = group.core(number)
        core.desk.put()
        log = [what for kind, what in group.nodes[number].disk.log if kind == "quorum"]
        from_log = replayed(group, number, log)
        from_snapshot = replayed(group, number, list(core.snapshot()))
        assert knowledge(from_snapshot) == knowledge(from_log)
        assert from_snapshot.stable == core.stable >= from_log.stable
        assert from_snapshot.desk.peers[1 + number % 3].position >= from_log.desk.peers[1 + number % 3].position > 0


def test_a_ledger_that_is_damaged_is_noticed() -> None:
    core = Quorum(1, Disk(), ToyMachine(Disk()), [Member(1, MASTER)])
    with pytest.raises(Damaged):
        core.replay(b"\x93nothing")


def test_everything_survives_a_crash_of_everybody_that_was_acknowledged() -> None:
    group = Masters([1, 2, 3])
    group.run()
    for ticket in range(6):
        group.request(1 + ticket % 3, Propose(ticket, group.tx(1 + ticket % 3), body(b"k%d" % ticket)))
    group.run()
    tids = sorted(group.answers(ticket)[0].tid for ticket in range(6))
    for number in (1, 2, 3):
        group.crash(number)
    for number in (1, 2, 3):
        group.start(number)
    group.run()
    group.wait(3000)
    for number in (1, 2, 3):
        assert sorted(group.machine(number).history) == tids


def test_a_promise_waits_for_its_sync_and_the_next_ones_share_one() -> None:
    group = Masters([1, 2, 3], auto_sync=True)
    group.run()
    group.auto_sync = False
    sent: list[m.Message] = []
    syncs: list[int] = []

    def saw(number: int, effect: Any) -> None:
        if number == 2 and isinstance(effect, Sync):
            syncs.append(effect.ticket)
        if number == 2 and hasattr(effect, "message"):
            sent.extend(x for x in effect.message.messages if isinstance(x, m.Promise))

    group.seen = saw
    for ticket in range(3):
        group.request(1, Propose(ticket, group.tx(1), body(b"k%d" % ticket)))
        group.deliver(next(at for at, flight in enumerate(group.net) if flight[1] == 2))
    assert sent == [] and len(syncs) == 1
    group.sync(2)
    assert len(sent) == 1 and len(syncs) == 2
    group.sync(2)
    assert len(sent) == 3 and len(syncs) == 2


def test_bodies_larger_than_a_batch_travel_in_several() -> None:
    group = Masters([1, 2, 3])
    group.run()
    node = group.nodes[1]
    assert node.core is not None
    for ticket in range(5):
        what = Body([], [b"k%d" % ticket], [], bytes(600_000))
        node.core.step(Requested(Propose(ticket, group.tx(1), what)), group.now)
    group.drain(node)
    assert len([flight for flight in group.net if flight[1] == 2]) > 2
    group.run()
    group.wait(100)
    assert all(isinstance(group.answers(ticket)[0], Committed) for ticket in range(5))


def test_catching_up_goes_on_after_a_crash_and_from_another_peer() -> None:
    group = Masters([1, 2, 3])
    group.run()
    group.crash(3)
    for ticket in range(9):
        group.request(1, Propose(ticket, group.tx(1), body(b"k%d" % ticket)))
        group.run()
    group.wait(2000)
    group.start(3)
    pieces = 0
    while pieces < 2:
        if not group.net:
            group.wait(10, run=False)
            continue
        pieces += any(isinstance(message, m.Piece) for message in group.net[0][2].messages)
        group.deliver()
    assert group.core(3).watermark.frozen and not group.machine(3).executed
    half = len(group.machine(3).history)
    group.crash(3, keep=1000)
    group.crash(1)
    group.start(3)
    assert group.core(3).watermark.frozen and len(group.machine(3).history) == half > 0
    group.run()
    group.wait(5000)
    assert len(group.machine(3).history) == 9
    assert group.core(3).stable > max(group.machine(3).history)
    assert group.core(3).status().catch_up is None


def test_a_registers_life_is_kept_in_the_time_of_the_group() -> None:
    group = Masters([1, 2, 3])
    group.run()
    for ticket in range(3):
        group.request(1, Propose(ticket, group.tx(1), body(b"k%d" % ticket)))
    group.run()
    group.wait(25_000)
    assert [len(group.core(number).registers.table) for number in (1, 2, 3)] == [3, 3, 3]
    group.wait(10_000)
    assert [len(group.core(number).registers.table) for number in (1, 2, 3)] == [0, 0, 0]
    assert group.now > START


def test_what_waits_for_a_sync_is_written_before_a_snapshot() -> None:
    group = Masters([1, 2, 3])
    group.run()
    core, disk = group.core(1), group.nodes[1].disk
    waiting = entries.Voted(group.tx(1), 1 << 40, 5)
    core.desk.write(waiting)
    next(core.snapshot())
    assert waiting in entries.decode(disk.log[-1][1]).entries
