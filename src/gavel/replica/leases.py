"""Leases at a master: the grantor (gavel.coherency) between the quorum, the history and the sessions of clients.

Invariants:
- nothing is granted before it is durable that leases may stand here (Quorum.note_leasing), nor while a grace lasts that
  this master needs because it cannot know what it, or others before it, granted;
- whatever has a proposal here, or is carried into this epoch, is in the way of grants until it is executed here;
- a master that nobody ever asked for leases has no grantor: it decodes, remembers and waits for nothing.

Time here is *steady*: ns of a clock that never goes back and counts while the machine sleeps. docs/internals/replica.md
says when there is a grace and why there need not be another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from gavel.coherency.grantor import Grantor, Note, Tell
from gavel.coherency.messages import FromClient, FromMaster, Token
from gavel.coherency.space import described, lease_key, lease_range, record_ranges
from gavel.effects import Arm, Effect, Observe
from gavel.effects import Tell as Say
from gavel.errors import BadRequest, GavelError
from gavel.history.history import History
from gavel.keys.tid import micros
from gavel.limits import CLOCK_OFF_US
from gavel.quorum.machine import Admission
from gavel.quorum.messages import Body, TxId
from gavel.quorum.quorum import Quorum
from gavel.quorum.votes import Electorate, disjoint

SECOND: Final = 1_000_000_000
MODES: Final = ("none", "S", "X")
EARLY_MAX: Final = 256  # messages that wait until it is durable that leases may stand; clients say everything again

Barrier = Callable[[Callable[[GavelError | None], None]], None]
Keys = Callable[[TxId, Body], Sequence[bytes] | None]


class Leases:
    """See the module. `durable` calls back when all that is written is durable; `keys` tells the record keys that a
    body writes, None while not all of it is here; it raises BadRequest for one that makes no sense."""

    def __init__(self, history: History, effects: list[Effect], durable: Barrier, keys: Keys) -> None:
        self.now = 0  # steady
        self._later = 0  # the host's clock less the steady one
        self._history = history
        self._effects = effects
        self._durable = durable
        self._keys = keys
        self._quorum: Quorum
        self._grantor: Grantor | None = None
        self._noted = False  # durably: leases may stand here
        self._noting = False
        self._early: list[tuple[bytes, list[FromClient]]] = []
        self._blocked: dict[TxId, None] = {}
        self._epoch = -1
        self._former = Electorate()
        self._acting = False
        self._armed: int | None = None
        self._counted = [(0, 0), (0, 0)]  # when recalls were counted, and how many, twice

    @property
    def asleep(self) -> bool:
        """Whether nobody has ever asked this master for a lease, and nothing may stand from before."""
        return self._grantor is None

    def set_time(self, now: int, steady: int | None) -> None:
        """What the host's clock and the steady one read; to be called before each step. None: they are one."""
        self.now = now if steady is None else steady
        self._later = now - self.now

    def begin(self, quorum: Quorum) -> None:
        """The ledger was replayed, and the quorum has started."""
        self._quorum = quorum
        self._epoch, self._former = quorum.desk.epoch, quorum.desk.electorate
        if quorum.leasing:
            self._noted = True
            self._wake().start_grace(self.now)
        self.follow()

    def _wake(self) -> Grantor:
        if self._grantor is None:
            self._grantor = Grantor(self._quorum.desk.incarnation, self)
            self._block_standing()
            self._inform(self._grantor)
        return self._grantor

    # Clients.

    def hear(self, session: bytes, messages: list[FromClient]) -> None:
        """A client's session says this. What cannot be heard now is lost; clients say everything again."""
        self.follow()
        if not self._acting:
            return
        if not self._noted:
            if len(self._early) < EARLY_MAX:
                self._early.append((session, messages))
            self._note()
            return
        grantor = self._wake()
        for message in messages:
            grantor.hear(session, message, self.now)

    def _note(self) -> None:
        if not self._noting:
            self._noting = True
            self._quorum.note_leasing(True)
            self._durable(self._is_noted)

    def _is_noted(self, error: GavelError | None) -> None:
        self._noting = False
        early, self._early = self._early, []
        if error is None:
            self._noted = True
            for session, messages in early:
                self.hear(session, messages)

    # What the quorum's machine asks.

    def admit(self, txid: TxId, body: Body, keys: Sequence[bytes]) -> Admission:
        """Whether this master may propose for a transaction that writes these record keys; if so, nothing is granted
        against it until ended()."""
        self.follow()
        grantor = self._grantor
        if grantor is None:
            return Admission.GO
        reads = [lease_range(lo, hi) for lo, hi, _ in body.reads]
        writes = list(map(lease_key, keys))
        me = self._quorum.me
        tokens = [Token(*token[1:]) for token in body.tokens if token[0] == me] if body.tokens else None
        found = Admission(int(grantor.admit(txid.session, reads, writes, tokens, self.now)))
        if found is Admission.GO:
            self._blocked[txid] = None
            grantor.block(txid, writes)
        return found

    def ended(self, txid: TxId) -> None:
        """It was executed here, or never will be."""
        if txid in self._blocked and self._grantor is not None:
            self.follow()
            self._blocked.pop(txid, None)
            self._grantor.unblock(txid, self.now)

    def _block_standing(self) -> None:
        """Have just what stands block grants: after a start, in a new epoch, and when the first client comes."""
        assert self._grantor is not None
        former, self._blocked = self._blocked, {}
        for txid, body in self._quorum.standing():
            self._blocked[txid] = None
            self._grantor.block(txid, self._lease_keys(txid, body))
        for txid in former:
            if txid not in self._blocked:
                self._grantor.unblock(txid, self.now)

    def _lease_keys(self, txid: TxId, body: Body | None) -> list[bytes] | None:
        try:
            keys = None if body is None else self._keys(txid, body)
        except BadRequest:
            return []  # nothing of it is ever applied
        return None if keys is None else list(map(lease_key, keys))

    # Where the quorum is.

    def follow(self) -> None:
        """See which epoch this is, and whether this master acts in it. To be called when either may have changed."""
        desk = self._quorum.desk
        if desk.epoch != self._epoch:
            self._entered()
        acting = desk.acting and not desk.witness
        if acting != self._acting or (acting and desk.epoch != self._told):
            self._acting = acting
            self._told = desk.epoch if acting else -1
            if self._grantor is not None:
                self._inform(self._grantor)

    _told = -1  # the epoch that the grantor knows it acts in

    def _inform(self, grantor: Grantor) -> None:
        if self._acting:
            grantor.enter(self._told, self._quorum.desk.electorate.voters, self.now)
        else:
            grantor.seal()

    def _entered(self) -> None:
        desk = self._quorum.desk
        former, before = self._former, self._epoch
        self._epoch, self._former = desk.epoch, desk.electorate
        record = self._quorum.epochs.record
        if record is not None and record.leasing is not False:
            self._noted = True  # with the record
            known = before == desk.epoch - 1 and desk.me in former.voters
            grantor = self._wake()
            if not known or disjoint(former.voters, desk.electorate.voters):
                grantor.start_grace(self.now)
        if self._grantor is not None:
            self._block_standing()

    # Time, and what comes out.

    def tick(self) -> None:
        """Time has passed."""
        grantor = self._grantor
        if grantor is None:
            return
        self.follow()
        self._armed = None
        grantor.tick(self.now)
        if grantor.wake_at is None and self._noted and self._acting:
            self._noted = False  # no session, no grace: no lease of this master stands
            self._quorum.note_leasing(False)

    def drain(self) -> None:
        """Put what is to be done among the effects."""
        if self._epoch < 0:
            return  # nothing was begun: the volume is only read
        if self._grantor is not None or self._quorum.desk.epoch != self._epoch:
            self.follow()
        grantor = self._grantor
        if grantor is None:
            return
        said: dict[bytes, list[FromMaster]] = {}
        for one in grantor.drain():
            if isinstance(one, Tell):
                said.setdefault(one.session, []).append(one.message)
            else:
                self._effects.append(_observed(one))
        self._effects += [Say(session, messages) for session, messages in said.items()]
        at = grantor.wake_at
        if at is not None and (self._armed is None or at < self._armed):
            self._armed = at
            self._effects.append(Arm(at + self._later))

    def due(self) -> bool:
        """Whether tick() has something to do."""
        return self._armed is not None and self.now >= self._armed

    def status(self, whole: bool = False) -> dict[str, Any]:
        """For people, as plain fields; empty as long as nobody asks for leases. `whole`: what each session holds."""
        if self._grantor is None:
            return {}
        found = self._grantor.status(self.now)
        sessions: list[dict[str, Any]] = found.pop("sessions")
        found |= {name: sum(one[name] for one in sessions) for name in ("ranges", "bytes")}
        found |= {"sessions": len(sessions), "recalls_per_second": self._pace(found["recalls"])}
        return found | {"holders": [_shown(one) for one in sessions]} if whole else found

    def _pace(self, recalls: int) -> float:
        """Recalls a second, since a second ago or longer."""
        at, before = self._counted[0]
        if self.now - self._counted[1][0] >= SECOND:
            self._counted = [self._counted[1], (self.now, recalls)]
            at, before = self._counted[0]
        return round((recalls - before) * SECOND / max(self.now - at, SECOND), 1)

    # What the grantor asks (coherency.grantor.Host).

    def newest(self, lo: bytes, hi: bytes) -> int:
        """See coherency.grantor.Host."""
        return max((self._history.newest(first, last) for first, last in record_ranges(lo, hi)), default=0)

    def stable(self) -> int:
        """See coherency.grantor.Host."""
        return self._quorum.stable

    def clock(self) -> int:
        """See coherency.grantor.Host."""
        return self._quorum.clock_tid

    def observe(self, tid: int) -> None:
        """See coherency.grantor.Host. A client knows no tids but those it was told by masters, whose clocks are
        together."""
        clock = self._quorum.desk.clock
        if micros(tid) > max(clock.tick, clock.wall) + CLOCK_OFF_US:
            self._effects.append(Observe("lease.absurd", {"tid": tid}))
        else:
            clock.observe(tid)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _observed(note: Note) -> Observe:
    fields = {name: _plain(value) for name, value in note.fields.items()}
    return Observe(note.name, {"session": note.session.hex(), **fields})


def _shown(session: dict[str, Any]) -> dict[str, Any]:
    """A session of a grantor's status: names and keys in hex; with each range how wide that is."""
    held = [
        {"lo": lo.hex(), "hi": hi.hex(), "level": described(lo, hi), "mode": MODES[mode]}
        for lo, hi, mode in session["held"]
    ]
    return {name: _plain(value) for name, value in session.items()} | {"held": held}
