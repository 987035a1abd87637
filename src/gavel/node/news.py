"""What has changed about a cluster since the last look, as a node's own status tells it: what is worth a line of log.

Pure: statuses in, news out. The first look tells nothing but what is wrong.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from gavel.node.protocol import Json


class Event(NamedTuple):
    """A line of the log; see logs.event()."""

    name: str
    text: str
    level: int
    fields: Json


class News:
    """What was so at the last look."""

    def __init__(self, node: int) -> None:
        self._node = node
        self._up: dict[int, bool] = {}
        self._quorum = True
        self._behind: int | None = None  # from where it caught up at the last look
        self._told_so = False

    @property
    def behind(self) -> bool:
        """Whether this node has much to catch up with."""
        return self._told_so

    def look(self, status: Json) -> list[Event]:
        """What is new in a status (Master.status)."""
        found: list[Event] = []
        if "members" in status:
            found += self._members(status["members"])
            found += self._catch_up(status.get("catch_up"))
        return found

    def _members(self, members: list[Json]) -> list[Event]:
        found = []
        for one in members:
            node, up = one["node"], bool(one["up"])
            before = self._up.get(node)
            if node == self._node or before == up:
                continue
            what = f"node {node} ({one['role']})"
            if not up:
                found.append(_event("member lost", f"{what} cannot be reached", logging.WARNING, peer=node))
            elif before is not None:
                found.append(_event("member back", f"{what} is reached again", logging.INFO, peer=node))
        self._up = {one["node"]: bool(one["up"]) for one in members}
        voters = [one for one in members if one["role"] != "slave"]
        count = sum(bool(one["up"]) for one in voters)
        quorum = 2 * count > len(voters) or not voters
        if quorum != self._quorum:
            fields = {"up": count, "voters": len(voters)}
            text = f"{count} of {len(voters)} voters can be reached"
            found.append(
                _event("quorum regained", f"there is a majority again: {text}", logging.INFO, **fields)
                if quorum
                else _event("quorum lost", f"there is no majority: {text}", logging.ERROR, **fields)
            )
        self._quorum = quorum
        return found

    def _catch_up(self, catch_up: Any) -> list[Event]:
        """A short one, as slaves have all the time, is no news; only one that is still under way at the next look."""
        behind = catch_up["from_tid"] if catch_up and catch_up["total"] else None
        before, self._behind = self._behind, behind
        if behind is None:
            told, self._told_so = self._told_so, False
            return [_event("caught up", "this node has caught up", logging.INFO)] if told else []
        if self._told_so or before is None:
            return []
        self._told_so = True
        text = f"this node catches up: it lacks {catch_up['total']} bytes, and asks node {catch_up['peer']}"
        return [_event("catching up", text, logging.INFO, peer=catch_up["peer"], total=catch_up["total"])]


def _event(name: str, text: str, level: int, **fields: Any) -> Event:
    return Event(name, text, level, fields)
