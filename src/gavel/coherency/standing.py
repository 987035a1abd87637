"""How a client stands with each master: under which token, until when, and which releases are on their way.

A *support* is a number with two bits for each node: in which mode it grants a range. Times are the client's own; a term
is counted from when its renewal was asked for, and is shorter than the master's by what both clocks may drift.
Invariant: of two epochs at most support is counted, each by a majority of its own voters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gavel.coherency.messages import NONE, Renewed, Token, Want, X
from gavel.coherency.rules import Rules
from gavel.coherency.space import EVERYTHING
from gavel.limits import LEASE_DRIFT, LEASE_TERM_NS

TERM_NS: Final = LEASE_TERM_NS - 2 * LEASE_TERM_NS // LEASE_DRIFT


def mode_of(support: int, node: int) -> int:
    """In which mode a node grants."""
    return support >> 2 * node & 3


def raised(support: int, node: int, mode: int) -> int:
    """The support when a node grants this mode at least."""
    return support if mode_of(support, node) >= mode else lowered(support, node) | mode << 2 * node


def lowered(support: int, node: int) -> int:
    """The support without a node."""
    return support & ~(3 << 2 * node)


def at_most(support: int, to: int) -> int:
    """The support when nobody grants more than this mode."""
    return support if to == X else to and (support | support >> 1) & _lower_bits(support)


def exclusive(support: int) -> int:
    """The support of those that grant X, without the others."""
    return support & _lower_bits(support) << 1


def _lower_bits(support: int) -> int:
    return ((1 << (support.bit_length() + 2 & ~1)) - 1) // 3


class Standing:
    """One master."""

    __slots__ = ("acked", "connected", "log", "node", "repair", "sent", "token", "until")

    def __init__(self, node: int) -> None:
        self.node = node
        self.connected = False
        self.token: Token | None = None
        self.until: dict[int, int] = {}  # by epoch
        self.sent = 0  # the last Release
        self.acked = 0  # the last one whose processing is known
        self.log: list[tuple[int, list[Want]]] = []  # those after it
        self.repair = 0  # number of the ask for what others grant and this one does not

    def begin(self, token: Token, released: int) -> None:
        """It knows us under another token, and so nothing of what it granted before."""
        self.token = token
        self.until = {}
        self.acked = released
        self.log = []
        if released != self.sent:  # an old message has registered us: make it forget what that asked for
            self.acked = 0
            self.log = [(self.sent, [Want(*EVERYTHING, NONE)])]

    def acknowledge(self, released: int) -> None:
        """It has processed the releases up to this one."""
        if released > self.acked:
            self.acked = released
            self.log = [entry for entry in self.log if entry[0] > released]

    def since(self, released: int) -> list[Want]:
        """What was released after this one."""
        return [want for number, wants in self.log if number > released for want in wants]


class Masters:
    """All of them, and whose support counts until when."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._by_node: dict[int, Standing] = {}
        self._epochs: dict[int, tuple[int, ...]] = {}  # voters of the two newest known
        self._times: dict[tuple[int, int], int] = {}
        self._tokens: dict[int, tuple[tuple[int, int, int], ...]] = {}
        self.epoch = 0

    def of(self, node: int) -> Standing:
        """The master of this number, made when it is new."""
        found = self._by_node.get(node)
        if found is None:
            found = self._by_node[node] = Standing(node)
        return found

    def __iter__(self) -> Iterator[Standing]:
        return iter(list(self._by_node.values()))

    @property
    def voters(self) -> tuple[int, ...]:
        """Of the newest epoch known."""
        return self._epochs.get(self.epoch, ())

    @property
    def majority(self) -> int:
        """Of them."""
        return len(self.voters) // 2 + 1

    def renewed(self, master: Standing, message: Renewed, now: int) -> bool:
        """It stands behind us for another term; whether the epoch is a new one."""
        began = message.epoch > self.epoch
        if message.epoch not in self._epochs and (began or not self._epochs):
            self._epochs[message.epoch] = tuple(message.voters)
            self.epoch = message.epoch
            for old in sorted(self._epochs)[:-2]:
                del self._epochs[old]
        if message.epoch in self._epochs:
            term = TERM_NS if self._rules.shortened else LEASE_TERM_NS
            until = (message.sent if self._rules.from_sent else now) + term
            if until > master.until.get(message.epoch, 0):
                master.until[message.epoch] = until
                self._times.clear()
        for old in [epoch for epoch in master.until if epoch not in self._epochs]:
            del master.until[old]
        return began

    def changed(self) -> None:
        """A token is another one."""
        self._times.clear()
        self._tokens.clear()

    def until(self, support: int, mode: int) -> int:
        """Until when a majority grants this mode; 0: none does."""
        found = self._times.get((support, mode))
        if found is None:
            found = self._times[support, mode] = self._until(support, mode)
            if len(self._times) > 4096:
                self._times = {(support, mode): found}
        return found

    def _until(self, support: int, mode: int) -> int:
        best = 0
        for epoch, voters in self._epochs.items():
            times = []
            for node in voters:
                master = self._by_node.get(node)
                if master is not None and mode_of(support, node) >= mode:
                    ever = max(master.until.values(), default=0)
                    times.append(master.until.get(epoch, 0) if self._rules.one_epoch else ever)
            needed = len(voters) // 2 + 1 if self._rules.majority else 1
            if len(times) >= needed:
                best = max(best, sorted(times)[-needed])
        return best

    def tokens(self, support: int) -> tuple[tuple[int, int, int], ...]:
        """The tokens of those that grant X; the same object while they are the same."""
        found = self._tokens.get(support)
        if found is None:
            named = [m for m in self._by_node.values() if m.token is not None]
            if self._rules.tokens_of_grants:
                named = [m for m in named if mode_of(support, m.node) == X]
            found = tuple((m.node, m.token.incarnation, m.token.counter) for m in named if m.token is not None)
            if len(self._tokens) > 4096:
                self._tokens.clear()
            self._tokens[support] = found
        return found
