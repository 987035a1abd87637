"""What must hold of a run's account, one function a property; each returns what is wrong, nothing if all is well.

The system says at which tid each transaction happened, so nothing has to be searched for: the serial order is given,
and a checker replays it on a dict. What must hold at every moment and not only of the whole is the oracle's matter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

from gavel.quorum.machine import Aborted, Collided, Committed
from gavel.sim.account import Account, Operation, Rows, Seen

Versions = dict[bytes, list[tuple[int, bytes | None]]]


class Model:
    """The dict that everything is compared with: all versions of all keys."""

    def __init__(self) -> None:
        self.versions: Versions = {}

    def write(self, tid: int, writes: dict[bytes, bytes | None]) -> None:
        """Writes happen at a tid above all before."""
        for key, value in writes.items():
            self.versions.setdefault(key, []).append((tid, value))

    def rows(self, lo: bytes, hi: bytes, tid: int) -> Rows:
        """What is in [lo, hi) as of a tid."""
        found = []
        for key in sorted(self.versions):
            if lo <= key < hi:
                versions = self.versions[key]
                at = bisect_right(versions, tid, key=lambda version: version[0])
                value = versions[at - 1][1] if at else None
                if value is not None:
                    found.append((key, value))
        return tuple(found)

    def changes(self, seen: Seen, before: int) -> Iterator[tuple[bytes, int]]:
        """What changed in what was seen, after it was and before a tid."""
        for key, versions in self.versions.items():
            if seen.lo <= key < seen.hi:
                yield from ((key, tid) for tid, _ in versions if seen.freeze < tid < before)


def replay(account: Account) -> Model:
    """The model after the whole order."""
    writes = {operation.txid: operation.writes for operation in account.operations}
    model = Model()
    for decided in account.order:
        if isinstance(decided.outcome, Committed) and decided.txid in writes:
            model.write(decided.tid, writes[decided.txid])
    return model


def at_most_once(account: Account) -> list[str]:
    """A transaction has one place in the order at most, however often it was handed in, and a place is for one only."""
    wrong, known = [], {operation.txid for operation in account.operations}
    places: dict[object, int] = {}
    last = 0
    for decided in account.order:
        if decided.txid in places:
            wrong.append(f"{decided.txid} happened at {places[decided.txid]:#x} and again at {decided.tid:#x}")
        if decided.tid <= last:
            wrong.append(f"{decided.txid} at {decided.tid:#x} does not come after {last:#x}")
        if decided.txid not in known:
            wrong.append(f"nobody asked for {decided.txid}")
        places[decided.txid], last = decided.tid, decided.tid
    return wrong


def serializable(account: Account) -> list[str]:
    """Replayed in tid order, every transaction saw what it says it saw, and collided if and only if it had to."""
    wrong: list[str] = []
    operations = {operation.txid: operation for operation in account.operations}
    model = Model()
    for decided in account.order:
        operation = operations.get(decided.txid)
        if operation is None:
            continue
        for seen in operation.reads:
            wrong += _saw(model, operation.name, seen)
        changed = [change for seen in operation.reads for change in model.changes(seen, decided.tid)]
        if isinstance(decided.outcome, Committed):
            if changed:
                wrong.append(f"{operation.name} committed at {decided.tid:#x}, but {changed[0]} had changed")
            if decided.outcome.tid != decided.tid:
                wrong.append(f"{operation.name} committed at {decided.outcome.tid:#x}, decided for {decided.tid:#x}")
            model.write(decided.tid, operation.writes)
        elif isinstance(decided.outcome, Collided) and (decided.outcome.key, decided.outcome.tid) not in changed:
            wrong.append(f"{operation.name} is said to have collided with {decided.outcome}; what changed: {changed}")
    for look in account.looks:
        wrong += _saw(model, look.name, look.seen)
    return wrong


def _saw(model: Model, name: str, seen: Seen) -> list[str]:
    held = model.rows(seen.lo, seen.hi, seen.freeze)
    if held == seen.rows:
        return []
    return [f"{name} saw {seen.rows} of [{seen.lo!r}, {seen.hi!r}) as of {seen.freeze:#x}, which held {held}"]


def answers(account: Account) -> list[str]:
    """What clients are told is what happened: no acknowledged write is lost, no refused one happens.

    A collision may be told before anything is decided, or instead of that, of whatever has changed.
    """
    wrong = []
    places = {decided.txid: decided for decided in account.order}
    model = replay(account)
    for operation in account.operations:
        place = places.get(operation.txid)
        if operation.told is None:
            continue
        if isinstance(operation.told, Aborted):
            if place is not None:
                wrong.append(f"{operation.name} was told that it never happens, and is decided for {place.tid:#x}")
        elif isinstance(operation.told, Collided) and (place is None or isinstance(place.outcome, Collided)):
            told = operation.told.key, operation.told.tid
            before = place.tid if place is not None else operation.told.tid + 1
            if not any(told in model.changes(seen, before) for seen in operation.reads):
                wrong.append(f"{operation.name} was told {operation.told}, which is no change of what it had read")
        elif place is None:
            wrong.append(f"{operation.name} was told {operation.told}, and there is no trace of it")
        elif place.outcome != operation.told:
            wrong.append(f"{operation.name} was told {operation.told}, and it was {place.outcome}")
    return wrong


def real_time(account: Account) -> list[str]:
    """What ended before something else began comes before it in the order."""
    places = {decided.txid: decided.tid for decided in account.order}
    ended: list[tuple[int, int, str]] = []  # when, the highest tid that was surely known, of what
    began: list[tuple[int, int, str]] = []  # when, the tid, of what
    for operation in account.operations:
        tid = places.get(operation.txid)
        if tid is None:
            continue
        began.append((operation.began, tid, operation.name))
        if operation.ended is not None and operation.told is not None:
            # A collision may have been told before it was decided: what its client knows of is the change.
            known = operation.told.tid if isinstance(operation.told, Collided) else tid
            ended.append((operation.ended, known, operation.name))
    tids = [decided.tid for decided in account.order]
    for look in account.looks:
        if look.strict:  # it stands at the last transaction that it saw; two may see the same, so it need not be above
            at = bisect_right(tids, look.seen.freeze)
            began.append((look.began, look.seen.freeze + 1, look.name))
            ended.append((look.ended, tids[at - 1] if at else 0, look.name))
    ended.sort()
    began.sort()
    wrong, at, highest, of = [], 0, -1, ""
    for when, tid, name in began:
        while at < len(ended) and ended[at][0] < when:
            if ended[at][1] > highest:
                _, highest, of = ended[at]
            at += 1
        if tid <= highest:
            wrong.append(f"{name} at {tid:#x} began when {of} at {highest:#x} had ended")
    return wrong


def current(account: Account) -> list[str]:
    """Whoever reads under a lease misses nothing that was acknowledged before."""
    wrong = []
    changed: dict[bytes, list[Operation]] = {}
    for operation in account.operations:
        if isinstance(operation.told, Committed):
            for key in operation.writes:
                changed.setdefault(key, []).append(operation)
    for reading in account.readings:
        for operation in changed.get(reading.key, ()):
            assert isinstance(operation.told, Committed)
            if operation.ended is not None and operation.ended < reading.at and operation.told.tid > reading.tid:
                wrong.append(
                    f"{reading.name} took {reading.key!r} as of {reading.tid:#x} for current when {operation.name} at "
                    f"{operation.told.tid:#x} had ended"
                )
    return wrong


def durable(account: Account) -> list[str]:
    """Every master that is left holds exactly what was committed up to where it says it knows everything."""
    wrong, versions = [], replay(account).versions
    for final in account.finals:
        for key in sorted(versions.keys() | final.versions.keys()):
            want = [version for version in versions.get(key, []) if version[0] <= final.reached]
            have = [version for version in final.versions.get(key, []) if version[0] <= final.reached]
            if want != have:
                wrong.append(f"n{final.node} up to {final.reached:#x} holds {have} of {key!r}, committed were {want}")
    return wrong


def live(account: Account) -> list[str]:
    """When the faults are over, everybody is answered, everything is decided, and all know all of it."""
    wrong = [f"{operation.name} was never answered" for operation in account.operations if operation.told is None]
    last = account.order[-1].tid if account.order else 0
    for final in account.finals:
        if final.reached < last:
            wrong.append(f"n{final.node} knows everything up to {final.reached:#x} only; the last was {last:#x}")
        wrong += [f"{txid} is still undecided at n{final.node}" for txid in final.open]
    return wrong


CHECKERS: tuple[Callable[[Account], list[str]], ...] = (
    at_most_once,
    serializable,
    answers,
    real_time,
    current,
    durable,
    live,
)


def check(account: Account) -> list[str]:
    """All of it: (checker: what is wrong), at most a few of each."""
    return [f"{checker.__name__}: {wrong}" for checker in CHECKERS for wrong in checker(account)[:5]]


__all__ = ["CHECKERS", "Model", "Operation", "check", "replay"]
