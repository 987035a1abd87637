"""What a WHEN stands for on an open volume or on a cluster, in this machine's time zone."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gavel.errors import BadWhen
from gavel.filesystem import snapshots, when
from gavel.runtime.cluster_engine import ClusterEngine
from gavel.runtime.engine import Engine
from gavel.transaction.transaction import Transaction


def local_zone() -> tzinfo:
    """What TZ names, else the zone of this machine, else the present offset from UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    else:
        try:
            with open("/etc/localtime", "rb") as file:
                return ZoneInfo.from_file(file)
        except (OSError, ValueError):
            pass
    return datetime.now().astimezone().tzinfo or UTC


def tid_named(engine: Engine, text: str) -> int:
    """The tid that a WHEN stands for; raises BadWhen. Hold the engine's turn.

    What is dirty is committed first: what was done before the question belongs to the past that is asked for.
    """
    last = engine.replica.last_tid if engine.volume.read_only else engine.flush()

    def snapshot(name: str) -> int | None:
        found = engine.read(_snapshot, name)
        return None if found is None else found.tid

    return when.parse(text, engine.clock(), local_zone(), snapshot, engine.history.created_tid, last)


async def tid_on_cluster(engine: ClusterEngine, text: str) -> int:
    """The tid that a WHEN stands for on a cluster; raises BadWhen, QuorumLost.

    What lies before the newest state that the master in use has come to is settled; only for what is later, and for
    the name of a snapshot, a majority is asked.
    """
    if when.is_form(text) and text not in ("", "now"):
        reached = await engine.reached()
        with contextlib.suppress(BadWhen):  # of the future, as far as that master knows
            tid = when.parse(text, engine.clock(), local_zone(), lambda name: None, 1, reached)
            if tid < reached or tid == _number(text):
                return tid
    last = await engine.point()
    named = {} if when.is_form(text) else {one.name: one.tid for one in await engine.run(snapshots.listing)}
    return when.parse(text, engine.clock(), local_zone(), named.get, 1, last)


def _number(text: str) -> int | None:
    """The tid that is written there, if it is one."""
    return int(text, 16) if text[:2] in ("0x", "0X") else None


def _snapshot(tx: Transaction, name: str) -> snapshots.Snapshot | None:
    return snapshots.find(tx, name)
