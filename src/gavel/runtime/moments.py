"""What a WHEN stands for on an open volume, in this machine's time zone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gavel.filesystem import snapshots, when
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


def _snapshot(tx: Transaction, name: str) -> snapshots.Snapshot | None:
    return snapshots.find(tx, name)
