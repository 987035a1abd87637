"""A simulated master: the real quorum over the toy store, and the part of a replica that serves clients' views.

Invariant: nothing here decides anything; it hands events to the quorum, and reads from the store what the quorum says
is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gavel.effects import Effect, Event, Reply, Requested
from gavel.errors import GavelError
from gavel.quorum.messages import Batch, Member, decode, encode
from gavel.quorum.quorum import Quorum
from gavel.quorum.requests import Arrived, ReadPoint
from gavel.quorum.rules import Rules
from gavel.sim.client import Shown, View
from gavel.sim.store import Ledger, Log, Store, quorum_records


class Batches:
    """How batches travel: as the bytes they really are."""

    def encode(self, message: Batch) -> bytes:
        """See host.Wire."""
        return encode(message)

    def decode(self, data: bytes) -> Batch:
        """See host.Wire."""
        return decode(data)

    def describe(self, message: Batch) -> str:
        """Messages, and what is vouched for; for a trace."""
        said = [_short(one) for one in message.messages]
        if message.vouch is not None:
            vouch = message.vouch
            items = ", ".join(f"{name(tx)}≥{lowest:x}:{value}" for tx, lowest, value in vouch.items)
            said.append(f"vouch {vouch.stream}.{vouch.number} now={vouch.now:x} [{items}]")
        return f"e{message.epoch} " + "; ".join(said)


def name(txid: Any) -> str:
    """A transaction as traces show it."""
    return f"{txid.session[:2].hex()}.{txid.seq}"


def _short(message: Any) -> str:
    fields = []
    for field in message.__struct_fields__:
        value = getattr(message, field)
        if field == "tx":
            fields.append(name(value))
        elif field == "body":
            fields.append("body" if value is not None else "no body")
        elif isinstance(value, bytes):
            fields.append(f"{field}={len(value)} bytes")
        else:
            fields.append(f"{field}={value:x}" if isinstance(value, int) else f"{field}={value}")
    return f"{type(message).__name__}({', '.join(fields)})"


class Master:
    """One incarnation of a master's process."""

    def __init__(self, node: int, log: Log, store: Store, founding: Iterable[Member], rules: Rules, now: int) -> None:
        self.log = log
        self.store = store
        self.quorum = Quorum(node, Ledger(log), store, founding, rules=rules)
        for record in quorum_records(log):
            self.quorum.replay(record)
        self.quorum.start(now)
        self._views: dict[int, View] = {}
        self._answers: list[Effect] = []

    def step(self, event: Event, now: int) -> None:
        """See effects.py."""
        if type(event) is Requested and type(event.request) is View:
            self._view(event.request, now)
        else:
            if type(event) is Requested and type(event.request) is Arrived:
                self.store.arrive(event.request.blob)
            self.quorum.step(event, now)

    def drain(self) -> list[Effect]:
        """See effects.py."""
        effects = self.quorum.drain()
        if self._views or self._answers:
            effects = [self._taken(effect) for effect in effects] + self._answers
            self._answers = []
        return effects

    def checkpoint(self) -> None:
        """Let the log forget what is not needed any more."""
        self.log.checkpoint(self.store.checkpoint() + [("quorum", record) for record in self.quorum.snapshot()])

    def _view(self, view: View, now: int) -> None:
        if view.strict:
            self._views[view.ticket] = view
            self.quorum.step(Requested(ReadPoint(view.ticket)), now)
            return
        stable = self.quorum.stable
        if view.tid > stable:
            self._answers.append(Reply(view, GavelError("not known here yet")))
        else:
            self._answers.append(Reply(view, self._shown(view, view.tid or stable)))

    def _taken(self, effect: Effect) -> Effect:
        if type(effect) is not Reply or type(effect.request) is not ReadPoint:
            return effect
        view = self._views.pop(effect.request.ticket, None)
        if view is None:
            return effect
        if isinstance(effect.result, Exception):
            return Reply(view, effect.result)
        return Reply(view, self._shown(view, effect.result))

    def _shown(self, view: View, tid: int) -> Shown:
        return Shown(tid, tuple(self.store.rows(lo, hi, tid) for lo, hi in view.ranges))
