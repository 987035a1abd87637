"""A small group of whole masters on simulated devices: messages arrive at once and in order, time moves by hand.

The simulator is the place for faults of the network; here what a master is made of is tried together.
"""

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from gavel.coherency.messages import encode, from_client
from gavel.effects import (
    Arm,
    Heard,
    Observe,
    PeerDown,
    PeerUp,
    Received,
    Reply,
    Requested,
    Send,
    Sync,
    Synced,
    Tell,
    Ticked,
)
from gavel.errors import GavelError
from gavel.limits import BODY_INLINE_MAX, VOLUME_MIN
from gavel.media.volume import Volume
from gavel.quorum.messages import Member
from gavel.quorum.requests import Reconfigure
from gavel.quorum.votes import MASTER, WITNESS
from gavel.replica import peers
from gavel.replica.digest import digest
from gavel.replica.replica import Replica
from gavel.sim.device import SimDevice
from gavel.transaction.requests import Answer, Asked, Checkpoint, Fetch, Look, Question, Submit, pack
from tests.unit.replica.masters import SESSION

MS = 1_000_000
START = 1_750_000_000 * 10**9


class Group:
    """Masters 1 to n, some of them witnesses. `up` are those that run; `lose` says which messages to lose."""

    def __init__(self, count: int = 3, spares: int = 0, witnesses: Collection[int] = ()) -> None:
        self.now = START
        self.nodes = list(range(1, count + spares + 1))
        self.founding = [Member(node, WITNESS if node in witnesses else MASTER) for node in range(1, count + 1)]
        self.devices = {node: self.fresh(node) for node in self.nodes}
        self.up: dict[int, Replica] = {}
        self.posted: deque[tuple[int, int, Any]] = deque()
        self.armed: list[tuple[int, int]] = []
        self.answers: dict[int, Any] = {}
        self.observed: list[tuple[int, Observe]] = []
        self.sequence = self.ticket = 0
        self.lose = lambda source, target, message: False
        self.told: Callable[[int, Tell], None] = lambda node, tell: None  # what clients hear unasked
        for node in self.nodes:
            self.start(node)

    @staticmethod
    def fresh(node: int, salt: int = 0) -> SimDevice:
        device = SimDevice(VOLUME_MIN * 2, node)
        Volume.format(device, identity=bytes([node]) * 16, salt=node + 100 * (salt + 1), label="", created_tid=1)
        return device

    # Machines.

    def start(self, node: int) -> None:
        volume = Volume.open(self.devices[node])
        founding = self.founding if any(member.node == node for member in self.founding) else []
        self.up[node] = Replica(volume, self.now, node, founding, resident=False, steady=self.now - START)
        self._carry_out(node)
        for other in list(self.up):
            if other != node:
                self.step(node, PeerUp(other))
                self.step(other, PeerUp(node))

    def crash(self, node: int, keep: float | None = 0.0) -> None:
        del self.up[node]
        self.devices[node] = self.devices[node].crash(keep=keep)
        self.posted = deque(each for each in self.posted if node not in each[:2])
        self.armed = [each for each in self.armed if each[1] != node]
        for other in self.up:
            self.step(other, PeerDown(node))

    def step(self, node: int, event: Any) -> None:
        if node in self.up:
            self.up[node].step(event, self.now, self.now - START)
            self._carry_out(node)

    def _carry_out(self, node: int) -> None:
        for effect in self.up[node].drain():
            match effect:
                case Send(peer, message):
                    self.posted.append((node, peer, b"".join(peers.encode(message))))
                case Sync(ticket):
                    self.devices[node].sync()
                    self.posted.append((0, node, Synced(ticket)))
                case Arm(at):
                    self.armed.append((at, node))
                case Reply(Asked(ticket), result):
                    assert ticket not in self.answers
                    self.answers[ticket] = result
                case Reply(request, result):
                    self.answers[request.ticket] = result
                case Tell():
                    self.told(node, effect)
                case Observe():
                    self.observed.append((node, effect))

    def hear(self, node: int, session: bytes, said: list[Any]) -> None:
        """A client's session says something, as bytes."""
        self.step(node, Heard(session, from_client(encode(said))))

    def run(self, milliseconds: int = 0) -> None:
        """Deliver everything, and let so much time pass."""
        until = self.now + milliseconds * MS
        while True:
            while self.posted:
                source, target, message = self.posted.popleft()
                if target not in self.up or (source and source not in self.up):
                    continue
                if not source:
                    self.step(target, message)
                elif not self.lose(source, target, message):
                    self.step(target, Received(source, peers.decode(message)))
            due = min(self.armed, default=None)
            if due is None or due[0] > until:
                break
            self.armed.remove(due)
            self.now = max(self.now, due[0])
            self.step(due[1], Ticked())
        self.now = until

    # Requests.

    def ask(self, node: int, question: Question) -> int:
        self.ticket += 1
        self.step(node, Requested(Asked(self.ticket, question)))
        return self.ticket

    def answer(self, node: int, question: Question, patience: int = 20) -> Answer:
        ticket = self.ask(node, question)
        for _ in range(patience):
            self.run(100)
            if ticket in self.answers:
                found: Answer = self.answers.pop(ticket)
                return found
        raise TimeoutError(question)

    def submission(
        self, node: int, writes: dict[bytes, bytes | None], reads: Any = (), blobs: Any = (), settled: int = 0
    ) -> Submit:
        self.sequence += 1
        packed = pack(writes, settled)
        assert len(packed) <= BODY_INLINE_MAX
        return Submit(SESSION, self.sequence, self.now // 1000 << 8, node, list(reads), list(blobs), packed)

    def submit(self, node: int, writes: dict[bytes, bytes | None], reads: Any = (), blobs: Any = ()) -> Answer:
        return self.answer(node, self.submission(node, writes, reads, blobs))

    def look(self, node: int, lo: bytes, hi: bytes) -> dict[bytes, bytes]:
        """The records of a range as a client sees them now; all pieces of it."""
        looked = self.answer(node, Look([(lo, hi, 0)]))
        assert not isinstance(looked, GavelError), looked
        (part,) = looked.parts  # type: ignore[union-attr]
        found = dict(zip(part.keys, part.values, strict=True))
        while part.end is not None:
            (part,) = self.answer(node, Fetch([(part.end, hi)], looked.at)).parts  # type: ignore[union-attr]
            found.update(zip(part.keys, part.values, strict=True))
        return found

    def reconfigure(self, node: int, *members: int) -> None:
        self.ticket += 1
        wanted = [Member(member, MASTER) for member in members]
        self.step(node, Requested(Reconfigure(self.ticket, wanted)))
        self.run(3000)
        assert not isinstance(self.answers.pop(self.ticket), Exception)

    def checkpoint(self, node: int) -> None:
        self.ticket += 1
        self.step(node, Requested(Checkpoint(self.ticket)))
        self.run(10)
        assert not isinstance(self.answers.pop(self.ticket), Exception)

    # What must hold.

    def settle(self) -> None:
        """Wait until all that run know all that any of them does, and their histories are the same."""
        goal = max(replica.last_tid for replica in self.up.values())
        for _ in range(100):
            self.run(100)
            if all(replica.quorum.stable >= goal for replica in self.up.values()):
                break
        assert all(replica.quorum.stable >= goal for replica in self.up.values()), self.tids()
        assert all(replica.failure is None for replica in self.up.values()), self.observed
        assert len({digest(replica.history, goal) for replica in self.up.values()}) == 1
        for replica in self.up.values():
            assert not list(filter(None, replica.history.check(True)))

    def tids(self) -> dict[int, int]:
        return {node: replica.last_tid for node, replica in self.up.items()}
