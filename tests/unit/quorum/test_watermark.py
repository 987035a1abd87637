"""Vouches in order, streams that begin anew, and where the watermark stops."""

from typing import Any

import pytest

from gavel.effects import Effect, Received, Send
from gavel.quorum import giving, watermark
from gavel.quorum import messages as m
from gavel.quorum.messages import Member
from gavel.quorum.requests import Propose, ReadPoint, Reconfigure
from gavel.quorum.votes import MASTER, SLAVE
from tests.transcripts.masters import Masters, body


@pytest.fixture
def group() -> Masters:
    group = Masters([1, 2, 3])
    group.run()
    group.wait(100)
    return group


def propose(group: Masters, number: int, ticket: int) -> None:
    group.request(number, Propose(ticket, group.tx(number), body(b"k%d" % ticket)))


def test_a_gap_in_a_stream_vouches_for_nothing_until_it_begins_anew(group: Masters) -> None:
    peer = group.core(3).desk.peers[1]
    propose(group, 1, 1)
    group.net.clear()
    group.wait(30, run=False)
    before, stream = peer.vouched, peer.in_stream
    later = next(f for f in group.net if f[:2] == (1, 3) and f[2].vouch is not None and f[2].vouch.number > 0)
    group.net = [later]
    group.deliver()
    assert peer.vouched == before
    assert any(isinstance(message, m.VouchAsk) for f in group.net for message in f[2].messages)
    group.wait(300)
    assert peer.in_stream > stream and peer.vouched > before


def test_a_stream_that_knows_more_than_its_receiver_is_not_begun(group: Masters) -> None:
    core = group.core(3)
    peer = core.desk.peers[1]
    own = group.core(1).desk
    ahead = m.Vouch(99, 0, core.stable + 1000, core.stable + 2000, [], 0, 0)
    before = peer.vouched
    core.watermark.vouched(peer, m.Batch(own.incarnation, own.durable_position, 0, 0, ahead, []))
    assert peer.vouched == before and peer.in_stream != 99


def test_a_long_beginning_comes_in_pieces_that_vouch_at_the_end(group: Masters, monkeypatch: Any) -> None:
    monkeypatch.setattr(watermark, "VOUCH_ITEMS_MAX", 2)
    group.crash(3)
    for ticket in range(7):
        propose(group, 1, ticket)
    group.run()
    peer = group.core(1).desk.peer(3)
    peer.up = True
    group.core(1).watermark.begin_stream(peer, m.VouchAsk(0))
    vouches = group.core(1).watermark.vouches(peer)
    assert [vouch.number for vouch in vouches] == [0, 1, 2, 3]
    assert [bool(vouch.now) for vouch in vouches] == [False, False, False, True]
    assert sum(len(vouch.items) for vouch in vouches) == 7


def test_what_every_stream_has_told_is_trimmed_and_a_late_one_asks(group: Masters, monkeypatch: Any) -> None:
    monkeypatch.setattr(watermark, "VOUCH_ITEMS_MAX", 4)
    group.cuts.update({(1, 3)})  # nobody notices; batches to 3 are composed all the same
    for ticket in range(40):
        propose(group, 1, ticket)
        group.run()
    core = group.core(1)
    core.desk.peers[3].cursor = 0  # as if it had been told nothing for long
    core.watermark.trim()
    assert len(core.registers.listed) <= 4
    group.cuts.clear()
    group.wait(2000)
    assert group.core(3).stable >= max(group.machine(1).history)


def test_reads_that_come_together_share_a_round(group: Masters) -> None:
    asked = []
    group.seen = lambda number, effect: asked.extend(
        message
        for message in getattr(getattr(effect, "message", None), "messages", [])
        if isinstance(message, m.ReadAsk)
    )
    for ticket in range(10):
        group.request(1, ReadPoint(ticket))
    group.run()
    assert all(group.answers(ticket) for ticket in range(10))
    assert len({message.number for message in asked}) == 2


def test_decisions_of_the_living_come_in_pieces(group: Masters, monkeypatch: Any) -> None:
    monkeypatch.setattr(giving, "KNOWN_MAX", 2)
    group.nodes[4] = type(group.nodes[1])(4)
    group.start(4)
    txs = []
    for ticket in range(7):
        txs.append(group.tx(1))
        group.request(1, Propose(ticket, txs[-1], body(b"k%d" % ticket)))
        group.run()
    group.request(1, Reconfigure(9, [Member(n, MASTER) for n in (1, 2, 3, 4)]))
    group.run()
    group.wait(2000)
    assert group.core(4).status().voting
    table = group.core(4).registers.table
    assert [table[tx].decided for tx in txs] == [group.answers(ticket)[0].tid for ticket in range(7)]


def test_a_slave_passes_on_what_happened_but_no_decisions_it_was_not_told() -> None:
    """A voter that caught up from a slave decided a transaction of the former epoch a second time (a walk found it)."""
    group = Masters([Member(1, MASTER), Member(2, MASTER), Member(3, MASTER), Member(5, SLAVE)])
    group.run()
    propose(group, 1, 1)
    group.run()
    group.wait(2000)
    told: list[tuple[int, m.Piece]] = []

    def saw(number: int, effect: Effect) -> None:
        if isinstance(effect, Send):
            told.extend((number, message) for message in effect.message.messages if isinstance(message, m.Piece))

    group.seen = saw
    for known_above, answered in ((0, False), (giving.NOTHING, True)):
        for number in (5, 1):
            told.clear()
            group.step(number, Received(2, batch_of(group, 2, m.CatchUp(0, 0, None, 0, known_above))))
            assert any(sender == number for sender, _ in told) == (answered or number == 1)


def batch_of(group: Masters, sender: int, message: m.Message) -> m.Batch:
    own = group.core(sender).desk
    return m.Batch(own.incarnation, own.durable_position, group.now // 1000, own.epoch, None, [message])
