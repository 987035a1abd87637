"""A simulated master with leases: the real quorum over the toy store, and the real grantor beside it.

Invariant: the grantor is asked before every proposal, is told of every transaction that stands, and hears of its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from gavel.coherency.grantor import Admission as Verdict
from gavel.coherency.grantor import Grantor, Tell
from gavel.coherency.messages import FromMaster, Token, encode, from_client
from gavel.coherency.rules import Rules
from gavel.effects import Arm, Effect, Event, Observe, Reply, Requested
from gavel.quorum.machine import Admission, Outcome
from gavel.quorum.messages import Body, Member, TxId
from gavel.quorum.rules import ALL
from gavel.sim.master import Master
from gavel.sim.oracle import Oracle
from gavel.sim.store import Log, Store, written

TOKENS: Final = b""  # in place of a key, among what a transaction writes: the tokens it names
_tokens = msgspec.msgpack.Decoder(list[tuple[int, int, int]]).decode


class Said(NamedTuple):
    """Lease messages of a client, as bytes. No answer is owed."""

    session: bytes
    data: bytes
    ticket: int = 0


class Told(NamedTuple):
    """Lease messages for a client; goes out as the request of a Reply."""

    session: bytes
    ticket: int = 0


class LeaseStore(Store):
    """The toy, which asks a grantor."""

    grantor: Grantor
    oracle: Oracle
    node: int
    now = 0

    def admit(self, txid: TxId, body: Body) -> Admission:
        """See quorum.machine."""
        named = written(body.payload).get(TOKENS)
        tokens = None
        if named is not None:
            tokens = [Token(incarnation, count) for node, incarnation, count in _tokens(named) if node == self.node]
        reads = [(lo, hi) for lo, hi, _ in body.reads]
        verdict = self.grantor.admit(txid.session, reads, body.keys, tokens, self.now)
        if verdict is Verdict.GO:
            self.oracle.admitted(self.node, txid)
            self.grantor.block(txid, body.keys)
        return Admission(verdict)

    def ended(self, txid: TxId) -> None:
        """See quorum.machine."""
        self.oracle.ended(self.node, txid)
        self.grantor.unblock(txid, self.now)


class LeaseMaster(Master):
    """One incarnation of a master's process; also what its grantor asks of it."""

    def __init__(
        self,
        node: int,
        log: Log,
        executed: Callable[[int, TxId, Outcome], None],
        oracle: Oracle,
        founding: Iterable[Member],
        rules: Rules,
        incarnation: int,
        now: int,
    ) -> None:
        store = LeaseStore(log, executed, lambda blob: None)
        store.node, store.now, store.oracle = node, now, oracle
        self.grantor = store.grantor = Grantor(incarnation, self, rules)
        self.rows = store
        self._entered = 0
        super().__init__(node, log, store, founding, ALL, now)
        for txid, body in self.quorum.standing():
            self.grantor.block(txid, None if body is None else body.keys)
        if incarnation > 1:
            self.grantor.start_grace(now)

    # What the grantor asks.

    def newest(self, lo: bytes, hi: bytes) -> int:
        """See grantor.Host."""
        versions = self.rows.versions
        return max((versions[key][-1][0] for key in versions if lo <= key < hi), default=0)

    def stable(self) -> int:
        """See grantor.Host."""
        return self.quorum.stable

    def clock(self) -> int:
        """See grantor.Host."""
        return self.quorum.clock_tid

    def observe(self, tid: int) -> None:
        """See grantor.Host."""
        self.quorum.desk.clock.observe(tid)

    # The two verbs.

    def step(self, event: Event, now: int) -> None:
        """See effects.py."""
        self.rows.now = now
        if self.grantor.wake_at is not None and now >= self.grantor.wake_at:
            self.grantor.tick(now)
        if type(event) is Requested and type(event.request) is Said:
            for message in from_client(event.request.data):
                self.grantor.hear(event.request.session, message, now)
        else:
            super().step(event, now)
        desk = self.quorum.desk
        if desk.acting and desk.epoch + 1 != self._entered:
            self._entered = desk.epoch + 1
            self.grantor.enter(self._entered, list(desk.electorate.voters), now)
        elif not desk.acting and self._entered:
            self._entered = 0
            self.grantor.seal()

    def drain(self) -> list[Effect]:
        """See effects.py."""
        effects = super().drain()
        said: dict[bytes, list[FromMaster]] = {}
        for one in self.grantor.drain():
            if isinstance(one, Tell):
                said.setdefault(one.session, []).append(one.message)
            else:
                effects.append(Observe(one.name, one.fields))
        effects += [Reply(Told(session), encode(messages)) for session, messages in said.items()]
        if self.grantor.wake_at is not None:
            effects.append(Arm(self.grantor.wake_at))
        return effects
