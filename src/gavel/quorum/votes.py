"""Who votes, and what a majority is.

Voters are a set of identities: an answer counts by who gave it, once, and only if it is a voter of the epoch. Nothing
here counts answers. A MASTER votes and keeps everything; a WITNESS votes and keeps registers only; a SLAVE keeps
everything and does not vote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from gavel.errors import BadRequest
from gavel.limits import MEMBERS_MAX
from gavel.quorum.messages import Member

MASTER: Final = 0
WITNESS: Final = 1
SLAVE: Final = 2


class Electorate:
    """The members of one epoch. Never changes; a new epoch has a new one."""

    __slots__ = ("everybody", "majority", "masters", "members", "slaves", "voters", "witnesses")

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self.members = sorted(Member(*member) for member in members)
        self.everybody = [member.node for member in self.members]
        self.masters = [node for node, role in self.members if role == MASTER]
        self.witnesses = [node for node, role in self.members if role == WITNESS]
        self.slaves = [node for node, role in self.members if role == SLAVE]
        self.voters = [node for node, role in self.members if role != SLAVE]
        self.majority = len(self.voters) // 2 + 1

    def reached(self, bounds: dict[int, int]) -> int:
        """The highest bound that a majority of the voters has reached; nodes without one stand at 0."""
        return sorted([bounds.get(voter, 0) for voter in self.voters], reverse=True)[self.majority - 1]

    def after(self, node: int) -> list[int]:
        """The masters in the order in which they take over what `node` left: those after it, then those before, then
        itself."""
        return [m for m in self.masters if m > node] + [m for m in self.masters if m <= node]


def disjoint(old: Collection[int], new: Collection[int]) -> bool:
    """Whether a majority of the new voters may consist of old ones and have nobody in common with some majority of the
    old."""
    stay = sum(voter in old for voter in new)
    fewest = max(0, len(old) // 2 + 1 - (len(old) - stay))  # of a majority of the old that are among those who stay
    return stay - fewest >= len(new) // 2 + 1


def check(members: Iterable[Member]) -> Electorate:
    """The electorate of these members; raises BadRequest for members that no group can have."""
    wanted = Electorate(members)
    if not wanted.masters:
        raise BadRequest("a group needs at least one master")
    if len(wanted.everybody) > MEMBERS_MAX:
        raise BadRequest(f"{len(wanted.everybody)} members were named; {MEMBERS_MAX} are the most, slaves included")
    if len(set(wanted.everybody)) != len(wanted.everybody):
        raise BadRequest("a node has one role; name each once")
    if any(not 0 <= node <= 255 or role not in (MASTER, WITNESS, SLAVE) for node, role in wanted.members):
        raise BadRequest("a member is a node of 0 to 255, and a master, a witness or a slave")
    return wanted
