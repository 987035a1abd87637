"""A simulated client: reads at one master, proposes at one, and after a lost answer asks another with the same txid.

It is told nothing by magic: requests and answers travel, may be lost or late, and it keeps its own, wrong, clock.
What it asks for is drawn: read-modify-write of one or two keys, of a range (so that phantoms matter), blind writes,
deletes, strict reads, reads of the past.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gavel.errors import Forgotten, GavelError
from gavel.keys.records import config
from gavel.keys.tid import make
from gavel.quorum.machine import Aborted, Collided, Committed, TooOld
from gavel.quorum.messages import Body, TxId
from gavel.quorum.requests import Ask, Propose
from gavel.sim.account import Account, Look, Operation, Rows, Seen
from gavel.sim.plan import Plan
from gavel.sim.store import payload
from gavel.sim.world import MILLISECOND, World

WALL_US = 1_750_000_000 * 10**6  # the time of day at which every run begins
ASK_AGAIN = 400 * MILLISECOND  # without an answer for so long a client asks somebody else


class View(NamedTuple):
    """A request of a client: what is in these ranges? Strictly now, as of `tid`, or (neither) as of what is known."""

    ticket: int
    ranges: tuple[tuple[bytes, bytes], ...]
    strict: bool
    tid: int = 0


class Shown(NamedTuple):
    """The answer to a View."""

    tid: int
    rows: tuple[Rows, ...]


class Client:
    """One client; `send(client, node, request)` puts a request on its way to a master."""

    def __init__(
        self,
        world: World,
        number: int,
        plan: Plan,
        account: Account,
        send: Callable[[Client, int, Any], None],
        masters: Callable[[], list[int]],
    ) -> None:
        self.name = f"c{number}"
        self.number = number
        self.over = False  # begin nothing more
        self.busy = False
        self._world = world
        self._plan = plan
        self._account = account
        self._send = send
        self._masters = masters
        self._random = world.stream(f"client {number}")
        self._session = self._random.randbytes(16)
        self._clock_off = self._random.choice((0, 0, 0, -2_000_000, 2_000_000))
        self._left = plan.transactions
        self._begun = 0
        self._tickets = 0
        self._ticket = 0  # of the request an answer to which is awaited
        self._master = 0
        self._request: Callable[[int], Any] = lambda ticket: None
        self._took: Callable[[Any], None] = lambda result: None
        self._blobs = 0
        self._seen_up_to = 0

    def begin(self) -> None:
        """Begin with the first operation, after a while."""
        self._world.after(1 + self._random.randrange(2 * MILLISECOND + self._plan.think), self._next)

    # -- asking ------------------------------------------------------------------------------------------------

    def _ask(self, request: Callable[[int], Any], took: Callable[[Any], None]) -> None:
        self._request, self._took = request, took
        self._try()

    def _try(self) -> None:
        masters = self._masters()
        if self._master not in masters or self._random.random() < 0.1:
            self._master = self._random.choice(masters)
        for _ in range(2 if self._random.random() < 0.05 else 1):  # the impatient ask two at once
            self._tickets += 1
            self._ticket = self.number << 32 | self._tickets
            self._send(self, self._master, self._request(self._ticket))
            self._world.after(ASK_AGAIN + self._random.randrange(ASK_AGAIN), self._give_up, self._ticket)
            if len(masters) > 1 and self._random.random() < 0.5:
                self._master = self._random.choice(masters)

    def _give_up(self, ticket: int) -> None:
        if ticket == self._ticket:
            self._move_on()

    def _move_on(self) -> None:
        others = [node for node in self._masters() if node != self._master]
        if others:
            self._master = self._random.choice(others)
        self._try()

    def answered(self, ticket: int, result: Any) -> None:
        """An answer has arrived."""
        if ticket != self._ticket:
            return
        if isinstance(result, GavelError) and not isinstance(result, Forgotten):
            self._ticket = 0
            self._world.after(self._random.randrange(20 * MILLISECOND), self._move_on)
            return
        self._ticket = 0
        self._took(result)

    # -- what it does ------------------------------------------------------------------------------------------

    def _next(self) -> None:
        self.busy = False
        if self.over or not self._left or not self._masters():
            return
        self._left -= 1
        self._begun += 1
        self.busy = True
        draw = self._random.random()
        if draw < 0.15:
            self._look(strict=True)
        elif draw < 0.25 and self._seen_up_to:
            self._look(strict=False)
        elif draw < 0.4:
            self._propose([], self._keys(2))
        else:
            self._transact()

    def _pause(self) -> None:
        self._world.after(1 + self._random.randrange(1 + 2 * self._plan.think), self._next)

    def _key(self) -> bytes:
        name = b"k%02d" % self._random.randrange(self._plan.keys)
        return config(0, name) if self._plan.whole else name

    def _keys(self, most: int) -> list[bytes]:
        return sorted({self._key() for _ in range(self._random.randint(1, most))})

    def _ranges(self, keys: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
        if self._random.random() < 0.2:
            lo, hi = sorted((self._key(), self._key()))
            return ((lo, hi + b"\0"),)
        return tuple((key, key + b"\0") for key in keys)

    def _look(self, strict: bool) -> None:
        name, began, ranges = self._name(), self._world.now, self._ranges(self._keys(2))
        tid = 0 if strict else self._random.randint(self._seen_up_to - (1 << 28), self._seen_up_to)

        def took(shown: Shown) -> None:
            for (lo, hi), rows in zip(ranges, shown.rows, strict=True):
                seen = Seen(lo, hi, shown.tid, rows)
                self._account.looks.append(Look(name, strict, began, self._world.now, seen))
            self._seen_up_to = max(self._seen_up_to, shown.tid)
            self._pause()

        self._ask(lambda ticket: View(ticket, ranges, strict, tid), took)

    def _transact(self) -> None:
        keys = self._keys(2)
        ranges = self._ranges(keys)

        def took(shown: Shown) -> None:
            self._seen_up_to = max(self._seen_up_to, shown.tid)
            reads = [Seen(lo, hi, shown.tid, rows) for (lo, hi), rows in zip(ranges, shown.rows, strict=True)]
            self._propose(reads, keys)

        strict = self._random.random() < 0.3
        self._ask(lambda ticket: View(ticket, ranges, strict), took)

    def _name(self) -> str:
        return f"{self.name}.{self._begun}"

    def _propose(self, reads: list[Seen], keys: list[bytes]) -> None:
        name = self._name()
        born = make(WALL_US + self._clock_off + self._world.now // 1000)
        txid = TxId(born, self._session, self._begun, self._master & 0xFF)
        deletes = 0.0 if self._plan.whole else 0.1  # of what is not there a history keeps no version
        writes = {key: None if self._random.random() < deletes else name.encode() for key in keys}
        blobs = []
        if self._random.random() < 0.1 and not self._plan.whole:
            self._blobs += 1
            blobs.append(self._session[:8] + self._blobs.to_bytes(8))
        body = Body([(seen.lo, seen.hi, seen.freeze) for seen in reads], keys, blobs, payload(writes))
        operation = Operation(name, txid, reads, writes, self._world.now)
        self._account.operations.append(operation)
        first = self._tickets + 1

        def request(ticket: int) -> Any:
            if ticket & 0xFFFFFFFF > first and self._random.random() < 0.1 and not self._plan.whole:
                return Ask(ticket, txid)
            return Propose(ticket, txid, body)

        def took(result: Any) -> None:
            operation.ended = self._world.now
            operation.told = Aborted() if isinstance(result, Forgotten) else result
            assert isinstance(operation.told, Committed | Collided | TooOld | Aborted), result
            if isinstance(operation.told, Committed):
                self._seen_up_to = max(self._seen_up_to, operation.told.tid)
            self._world.tell(self.name, f"{name} {operation.told}")
            self._pause()

        self._ask(request, took)
