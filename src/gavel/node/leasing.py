"""Who holds leases, as one node and the other masters tell it: what `gavel leases` shows.

Every master has its own table: a range is held by a client when a majority of the voters stands behind it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gavel.errors import GavelError
from gavel.node.protocol import Json
from gavel.runtime.master import Master
from gavel.transaction import requests
from gavel.transaction.requests import Told

_SECONDS: Final = 0.5  # that the others have for an answer
_ASKED: Final = requests.Status(leases=True)


async def leases(master: Master) -> Json:
    """`masters`: the table of each that answers; `holders`: sessions, what they hold, and at which masters."""
    tables = {master.party.node: await _own(master)}
    others = sorted(master.peers)
    asked = (master.ask_peer(node, _ASKED, master.party.incarnation, _SECONDS) for node in others)
    for node, told in zip(others, await asyncio.gather(*asked), strict=True):
        if isinstance(told, Told):
            tables[node] = told.fields.get("leases")
    known = {node: table for node, table in sorted(tables.items()) if isinstance(table, dict)}
    return {
        "cluster": master.party.cluster.hex(),
        "masters": [_table(node, table) for node, table in known.items()],
        "holders": _holders(master, known),
    }


async def _own(master: Master) -> object:
    try:
        told = await master.answer(lambda ticket: requests.Asked(ticket, _ASKED))
    except GavelError:
        return None
    return told.fields.get("leases")


def _table(node: int, table: dict[str, Any]) -> Json:
    shown = {name: value for name, value in table.items() if name not in ("holders", "grace_ns")}
    return {"node": node, **shown, "grace_ms": table.get("grace_ns", 0) // 1_000_000}


def _holders(master: Master, tables: dict[int, dict[str, Any]]) -> list[Json]:
    """Sessions by name; of each range, who stands behind it."""
    found: dict[str, Json] = {}
    for node, table in tables.items():
        for one in table.get("holders", ()):
            session = one["session"]
            name, where = master.client(bytes.fromhex(session))
            holder = found.setdefault(
                session,
                {"session": session, "name": name, "where": where, "ranges": 0, "recalls": 0, "waiting": 0, "held": {}},
            )
            for field in ("ranges", "recalls", "waiting"):
                holder[field] = max(holder[field], one[field])
            for held in one["held"]:
                key = held["lo"], held["hi"], held["mode"]
                holder["held"].setdefault(key, {**held, "masters": []})["masters"].append(node)
    holders = sorted(found.values(), key=lambda holder: (holder["name"], holder["session"]))
    return [{**holder, "held": [holder["held"][key] for key in sorted(holder["held"])]} for holder in holders]
