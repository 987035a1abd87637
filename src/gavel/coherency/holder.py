"""A client's part in leases: what it holds by a majority, until when, and what it has to give up.

See docs/internals/coherency.md. Invariants: what is believed of a master is a part of what that master recorded; a
range is held while a majority of the voters of one epoch grants it, each for a term counted from when the renewal was
asked for; what was recalled is used no more, and released only when the cache says that nothing is dirty there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gavel.coherency.messages import Age, FromClient, FromMaster, Granted, Want
from gavel.coherency.rules import ALL, Rules
from gavel.keys.ranges import Range

Tokens = tuple[tuple[int, int, int], ...]
"""(node, incarnation, counter), as Submit names them"""


class ToMaster(NamedTuple):
    """Say this to a master, in order; if it cannot be reached, or the message is lost, nothing is owed."""

    master: int
    message: FromClient


class Established(NamedTuple):
    """These are held now (those that an ask wanted, and more if they were granted wider). Records that are known up to
    `tid` at least are current from now on; older ones have to be looked at. `number`: the ask that is fulfilled; None
    if it came by itself. The cache calls done(number) when it has used it."""

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
    """No majority stands behind these any more: cap what is known of them at `tid` and use them no more. What is dirty
    there is in limbo. Nothing is to be released."""

    ranges: list[Range]
    tid: int


class Denied(NamedTuple):
    """A majority refused the ask, for such a reason (messages.ABSURD …)."""

    number: int
    why: int


Event = ToMaster | Established | Answered | Recalled | Lapsed | Denied


class Holder:
    """See the module. `now` is ns of a clock that also counts while the machine sleeps; never back.

    Reading: take the value, then look that clock() < valid_until. The shell calls `tick` at or after `wake_at`, and
    after each call carries out `drain()` in order.
    """

    def __init__(self, session: bytes, rules: Rules = ALL) -> None:
        self._session = session
        self._rules = rules
        self._out: list[Event] = []
        self.wake_at: int | None = 0
        self.valid_until = 0
        """all that is held is held until this moment at least; 0 if nothing is"""
        self.known = 0
        """a tid up to which everything was executed at some master while all that is held was held; cap at it"""

    # Asking.

    def need(
        self, wants: Sequence[Want], now: int, *, after: int | None = None, hold: bool = True, wide: bool = True
    ) -> int:
        """Ask every master for these together; the number comes back in Established, Answered or Denied. `after`: an
        earlier ask of the same operation, whose age this one has. hold=False: a read or a write without a lease."""
        return 0

    def done(self, number: int, now: int) -> None:
        """The operation that asked has run, or does not want it any more. Until then what was established for it is
        kept against younger ones, for a short while."""

    def covers(self, lo: bytes, hi: bytes, mode: int) -> bool:
        """Whether the lease range is held in this mode (or X), as of the last tick or message; see `valid_until`."""
        return False

    def tokens(self, ranges: Sequence[Range]) -> Tokens | None:
        """The tokens under which a write to all of these is made now: those of the masters that grant X on all of them;
        None if these are no majority. The same object while nothing changed. Groups of different tokens may share
        a transaction if it names what they have in common, and that is still a majority."""
        return None

    def released(self, recall: int, tid: int, now: int) -> None:
        """Nothing is dirty in what was recalled; `tid` is the highest that was seen or written there."""

    def give_up(self, ranges: Sequence[Want], tid: int, now: int) -> None:
        """Release these down to their modes, of own accord. Nothing may be dirty there that needs more."""

    # What happens.

    def hear(self, master: int, message: FromMaster, now: int) -> None:
        """A master said this."""

    def connected(self, master: int, now: int) -> None:
        """A master can be reached (again); nothing is known of what was said before."""

    def disconnected(self, master: int) -> None:
        """It cannot be reached. What it granted stands until its term is over."""

    def tick(self, now: int) -> None:
        """Time has passed."""

    def leave(self, now: int) -> None:
        """The client ends; nothing is dirty. Everything is given up at every master at once."""

    def drain(self) -> list[Event]:
        """What is to be done since the last call, in order."""
        out, self._out = self._out, []
        return out

    def age(self, number: int) -> Age | None:
        """Of an ask that is not done."""
        return None
