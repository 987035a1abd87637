"""How a master is, as `gavel status` shows it: what its quorum knows, and what its volume holds."""

from __future__ import annotations

from typing import Any

from gavel.history.history import History
from gavel.keys.tid import micros
from gavel.media.room import Space
from gavel.quorum.requests import Status
from gavel.quorum.votes import MASTER, WITNESS
from gavel.replica.staging import Staging
from gavel.transaction.requests import Told

_ROLES = {MASTER: "master", WITNESS: "witness"}


def told(status: Status, history: History, staging: Staging, space: Space, leases: dict[str, Any]) -> Told:
    """The status as plain fields: tids as numbers, sizes in bytes, times in microseconds (those of leases in ns)."""
    catch_up = status.catch_up
    peers = {peer.node: peer for peer in status.peers}
    newest = max([status.stable, *(peer.stable for peer in status.peers)])
    members = []
    for node, role in status.members:
        peer = peers.get(node)
        mine = node == status.node
        stable = status.stable if mine else peer.stable if peer is not None else 0
        members.append({
            "node": node,
            "role": _ROLES.get(role, "slave"),
            "up": mine or (peer is not None and peer.up),
            "sync_tid": stable,
            "lag_ms": max(0, micros(newest) - micros(stable)) // 1000,
            "clock_off_us": peer.clock_off_us if peer is not None else 0,
            "left_behind": node in status.left_behind,
            "refused": status.refused if mine else peer is not None and peer.refused,
        })  # fmt: skip
    fields = {
        "node": status.node, "epoch": status.epoch, "members": members, "voting": status.voting,
        "sealed": status.sealed, "refused": status.refused, "sync_tid": status.stable,
        "durable_sync_tid": status.durable_stable, "bound_tid": status.bound, "undecided": status.undecided,
        "registers": status.registers, "last_tid": history.last_tid, "horizon": history.horizon, "staged": len(staging),
        "catch_up": None if catch_up is None else {
            "peer": catch_up.peer, "from_tid": catch_up.lo, "to_tid": catch_up.hi,
            "position": catch_up.position, "total": catch_up.total, "left_ms": catch_up.left_ms,
            "horizon": catch_up.horizon,
        },
        **({"leases": leases} if leases else {}),
        **space._asdict(),
    }  # fmt: skip
    return Told(fields)
