"""The one seam between pure cores and the world: events go in, effects come out.

Every core has two verbs: `step(event, now)` takes what happened, `drain()` returns what is to be done about it.
A core never waits. Durability is a ticket: nothing that promises durability leaves a core before `Synced(ticket)`.

The shell owes a core:
- every drained effect is carried out, in order;
- `Synced(ticket)` is stepped only after a sync of the device that *began* after `Sync(ticket)` was drained;
- if that sync fails, `SyncFailed(ticket)` is stepped instead, and no later sync is tried;
- `Ticked` is stepped once at or after each armed time.

    core.step(Requested(request), now)
    for effect in core.drain():
        if isinstance(effect, Sync): device.sync(); core.step(Synced(effect.ticket), now)
        elif isinstance(effect, Reply): answer(effect.request, effect.result)
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Requested(NamedTuple):
    """Somebody on this side asks for something; the answer is a Reply with the same request."""

    request: Any


class Received(NamedTuple):
    """A message of a peer arrived."""

    peer: int
    message: Any


class Heard(NamedTuple):
    """A session of a client says something, unasked: messages of one moment, in order."""

    session: bytes
    messages: list[Any]


class Synced(NamedTuple):
    """Everything written before Sync(ticket) was drained is on stable storage."""

    ticket: int


class SyncFailed(NamedTuple):
    """The device could not sync; what was written since the last Synced may be lost."""

    ticket: int
    reason: str


class Ticked(NamedTuple):
    """An armed time has come."""


class PeerUp(NamedTuple):
    """A peer can be reached."""

    peer: int


class PeerDown(NamedTuple):
    """A peer can no longer be reached."""

    peer: int


class Send(NamedTuple):
    """Send a message to a peer; it may be lost, doubled or late."""

    peer: int
    message: Any


class Tell(NamedTuple):
    """Say this to a session of a client, unasked; it may be lost, doubled or late."""

    session: bytes
    messages: list[Any]


class Reply(NamedTuple):
    """The answer to a Requested; `result` is a value or an exception to raise there."""

    request: Any
    result: Any


class Sync(NamedTuple):
    """Make durable what has been written so far, then step Synced(ticket)."""

    ticket: int


class Arm(NamedTuple):
    """Step Ticked at this time (ns on the monotonic clock)."""

    at: int


class Observe(NamedTuple):
    """Something worth a log line or a counter."""

    name: str
    fields: dict[str, Any]


Event = Requested | Received | Heard | Synced | SyncFailed | Ticked | PeerUp | PeerDown
Effect = Send | Tell | Reply | Sync | Arm | Observe
