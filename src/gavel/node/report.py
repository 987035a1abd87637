"""How the cluster is, as one node sees it and the others tell: what `gavel status` and the console show."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from gavel.keys import tid as tids
from gavel.node.book import Book
from gavel.node.protocol import Json
from gavel.node.steward import Steward
from gavel.runtime.master import Master
from gavel.wire.messages import Role

_SECONDS: Final = 0.5  # that the others have for an answer
_CLOCK_US: Final = 500_000  # a clock that is further off gives times that people notice to be wrong


async def report(master: Master, book: Book, steward: Steward) -> Json:
    """Fields of the node's own status; `members` of the quorum and of the book, with what each tells of itself."""
    own = await master.status()
    others = sorted(master.peers)
    told = dict(zip(others, await asyncio.gather(*(master.inquire(node, _SECONDS) for node in others)), strict=True))
    told[master.party.node] = own
    known = {int(one["node"]): one for one in own.get("members", ())}
    nodes = sorted({*known, *(entry.node for entry in book.members())})
    members = [_member(node, known.get(node), told.get(node, {}), own, master, book, steward) for node in nodes]
    _judge_clocks(members)
    newest = max(one["sync_tid"] for one in members)
    for one in members:
        sync = one["sync_tid"]
        one["lag_ms"] = (tids.micros(newest) - tids.micros(sync)) // 1000 if sync else None
        one["sync_tid"] = tids.text(sync)
    problem = own.get("failure") or (str(steward.problem) if steward.problem else None)
    return {
        **own,
        "cluster": master.party.cluster.hex(),
        "time": time.time_ns() // 1_000_000,
        "sync_tid": tids.text(own.get("sync_tid", 0)),
        **{name: tids.text(own.get(name, 0)) for name in ("durable_sync_tid", "bound_tid", "last_tid")},
        "members": members,
        "problem": problem,
    }


def _member(node: int, known: Any, told: Json, own: Json, master: Master, book: Book, steward: Steward) -> Json:
    entry = book.entries.get(node)
    link = master.peers.get(node)
    mine = node == master.party.node
    wanted = Role(entry.role).name.lower() if entry else ""
    role = known["role"] if known else "joining"
    if own.get("failure"):
        role = wanted  # who has stepped aside is told of no others
    sync = told.get("sync_tid") or (known or {}).get("sync_tid", 0)
    problem = told.get("failure") or _behind(told.get("catch_up"), node)
    if not problem and known and known.get("left_behind"):
        problem = f"away for so long that it has to catch up; `gavel cluster remove {node}` if it does not come back"
    problem = problem or ("" if mine or link is not None else steward.problem_with(node))
    if told.get("refused") or (known and known.get("refused")):
        problem = "its volume is an old copy of itself; remove the node and let it join anew"
    return {
        "node": node,
        "name": entry.name if entry else "",
        "url": f"gavel://{entry.address}" if entry else "",
        "role": role,
        "wanted": wanted or role,
        "up": mine or (link is not None and link.opened and not link.doubted),
        "sync_tid": sync,
        "lag_ms": None,
        "rtt_us": link.pulse.rtt // 1000 if link is not None else None,
        "clock_off_us": (known or {}).get("clock_off_us", 0),
        "catch_up": _catch_up(told.get("catch_up")),
        "problem": problem or None,
    }


def _judge_clocks(members: list[Json]) -> None:
    """Say of each whose clock is far off that of most; of two that differ the lower is taken to be right."""
    known = [one for one in members if one["up"]]
    right = sorted(one["clock_off_us"] for one in known)[(len(known) - 1) // 2]
    for one in known:
        off = one["clock_off_us"] - right
        if abs(off) > _CLOCK_US and not one["problem"]:
            way = "ahead of" if off > 0 else "behind"
            one["problem"] = f"its clock is {abs(off) / 1e6:,.1f} s {way} that of the others; set it right"


def _catch_up(found: Any) -> Json | None:
    """Position and total of a member that catches up, with the fraction that is done."""
    if not found:
        return None
    total = max(1, found["total"])
    return {**found, "done": round(min(1.0, found["position"] / total), 3)}


def _behind(catch_up: Any, node: int) -> str:
    """What is wrong with a member that nobody can tell any more what it lacks."""
    if not catch_up or not catch_up.get("horizon"):
        return ""
    return (
        f"it was away for too long: it knows everything up to {tids.text(catch_up['from_tid'])}, and the others "
        f"remember back to {tids.text(catch_up['horizon'])} only. `gavel cluster remove {node}`, and join anew with an "
        "empty volume"
    )
