"""What leases cost in their cores: CPU nanoseconds of what happens at every operation, microseconds of what does not.

Three grantors and holders joined by function calls, without the wire. `covers` and `tokens` are what a client that has
everything pays for an operation; `admit` is what a master pays for a flush of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.measure import Row
from gavel.coherency.grantor import Grantor, Tell
from gavel.coherency.holder import Established, Holder, Recalled, ToMaster
from gavel.coherency.messages import NONE, Alive, Token, Want, X, encode, from_client
from gavel.coherency.space import lease_key, lease_range
from gavel.keys.ranges import just
from gavel.keys.records import entry, inode

NODES = (1, 2, 3)
ROUNDS = 3


class Site:
    """A master that executes nothing."""

    tick = 10

    def newest(self, lo: bytes, hi: bytes) -> int:
        return 0

    def stable(self) -> int:
        return 0

    def clock(self) -> int:
        self.tick += 1
        return self.tick

    def observe(self, tid: int) -> None:
        self.tick = max(self.tick, tid)


class Group:
    """Masters and clients; `run` carries messages until nobody has anything to say."""

    def __init__(self, clients: int) -> None:
        self.masters = {node: Grantor(1, Site()) for node in NODES}
        self.clients = {bytes([65 + number]) * 16: Holder(bytes([65 + number]) * 16) for number in range(clients)}
        for grantor in self.masters.values():
            grantor.enter(1, NODES, 0)
        for holder in self.clients.values():
            for node in NODES:
                holder.connected(node, 0)
        self.run()

    def run(self, now: int = 1) -> None:
        moved = True
        while moved:
            moved = False
            for session, holder in self.clients.items():
                for event in holder.drain():
                    moved = True
                    if isinstance(event, ToMaster):
                        self.masters[event.master].hear(session, event.message, now)
                    elif isinstance(event, Recalled):
                        holder.released(event.recall, 0, now)
                    elif isinstance(event, Established) and event.number is not None:
                        holder.done(event.number, now)
            for node, grantor in self.masters.items():
                for told in grantor.drain():
                    moved = True
                    if isinstance(told, Tell):
                        self.clients[told.session].hear(node, told.message, now)


def rate(call: Callable[[], object], count: int) -> float:
    """CPU seconds of one call, the best of some rounds."""
    best = 1e9
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(count):
            call()
        best = min(best, (time.process_time() - began) / count)
    return best


def key(number: int) -> bytes:
    return lease_key(inode(0, number))


def run(large: bool) -> list[Row]:
    count = 100_000 if large else 5_000
    rows: list[Row] = []

    def row(what: str, seconds: float) -> None:
        rows.append(Row(f"leases: {what}", "ns", seconds * 1e9, "", 0.0, 0.0))

    group = Group(1)
    ((session, holder),) = group.clients.items()
    holder.need([Want(*just(key(5)), X)], 1)
    group.run()
    lo, hi = just(key(5))
    name = entry(0, 7, b"name")
    row("covers, one range", rate(lambda: holder.covers(lo, hi, X), count))
    row("valid_until and one comparison", rate(lambda: holder.valid_until > 5, count))
    row("tokens of a group of 3", rate(lambda: holder.tokens([(lo, hi)] * 3), count))
    row("lease_range of a name", rate(lambda: lease_range(*just(name)), count))
    token = [Token(*group.masters[1].recorded(session, lo)[0])]  # type: ignore[index]
    writes = [key(number) for number in range(20)]
    admit = group.masters[1].admit
    row("admit a flush of 20 keys, held alone", rate(lambda: admit(session, [], writes, token, 1), count // 10))

    for step in range(0, 8192, 2):
        holder.give_up([Want(key(step), key(step + 1), NONE)], 0, 1)
    row("covers, 4,096 ranges", rate(lambda: holder.covers(lo, hi, X), count))

    busy = Group(100)
    for number, one in enumerate(busy.clients.values()):
        one.need([Want(*just(key(1000 * number + 5)), X)], 1)
        busy.run()
    sessions = list(busy.clients)
    far = [key(10**6 + number) for number in range(20)]
    crowd = busy.masters[1]
    row("admit 20 keys beside 100 clients", rate(lambda: crowd.admit(sessions[0], [], far, None, 1), count // 50))

    def renewed() -> None:
        crowd.hear(sessions[0], Alive(5, 0, []), 1)
        crowd.drain()

    row("a keep-alive heard and answered", rate(renewed, count // 10))

    pair = Group(2)
    first, second = pair.clients.values()
    number = iter(range(10**9))

    def fresh() -> None:
        start = key(300 * next(number))
        first.need([Want(*just(start), X)], 1, wide=False)
        pair.run()

    def turn() -> None:
        start = key(300 * next(number))
        for one in (first, second):
            one.need([Want(*just(start), X)], 1, wide=False)
            pair.run()

    few = max(200, count // 200)
    row("a lease, asked and granted by three", rate(fresh, few))
    row("a lease, and another client takes it over", rate(turn, few))
    said = [event.message for event in first.drain() if isinstance(event, ToMaster)]
    first.need([Want(*just(key(5)), X)], 1)
    said = [event.message for event in first.drain() if isinstance(event, ToMaster)][:1]
    row("an ask encoded and decoded", rate(lambda: from_client(encode(said)), count))
    return rows


if __name__ == "__main__":
    for found in run(False):
        print(f"{found.work:45} {found.gavel:12,.0f} {found.unit}")
