"""What a holder tells the cache around it, and what it says to masters."""

from __future__ import annotations

from typing import NamedTuple

from gavel.coherency.messages import FromClient, Granted, Want
from gavel.keys.ranges import Range

Tokens = tuple[tuple[int, int, int], ...]
"""(node, incarnation, counter), as Submit names them"""


class ToMaster(NamedTuple):
    """Say this to a master, in order; if it cannot be reached, or the message is lost, nothing is owed."""

    master: int
    message: FromClient


class Established(NamedTuple):
    """These are held now, and were not before in any mode: what an ask wanted, and more if it was granted wider.
    Records that are known up to `tid` at least are current from now on; older ones have to be looked at. `number`: the
    ask that is fulfilled; None if it came by itself. The cache calls done(number) when it has used it."""

    number: int | None
    ranges: list[Granted]


class Answered(NamedTuple):
    """The ask is answered, but nothing is held: it was asked so, or the range is contended. What is looked at now, as
    of `tid` or later, is current once; what is written now goes as a transaction without tokens."""

    number: int
    tid: int


class Recalled(NamedTuple):
    """These are not held in more than mode `to` any more. Cap what is known of them (if NONE), flush what is dirty
    there, have the kernel forget, then call released(recall, tid). Reading under S goes on if `to` is S."""

    recall: int
    ranges: list[Range]
    to: int


class Lapsed(NamedTuple):
    """No majority stands behind these any more, but in the mode named. If that is NONE: cap what is known of them at
    `tid` and use them no more. What is dirty there is in limbo. Nothing is to be released. If a majority comes back
    under the same tokens they are established again."""

    ranges: list[Want]
    tid: int


class Denied(NamedTuple):
    """A majority refused the ask, for such a reason (messages.ABSURD …)."""

    number: int
    why: int


Event = ToMaster | Established | Answered | Recalled | Lapsed | Denied
