"""What a grantor says to the shell around it, and what it asks of the master that it is part of."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from gavel.coherency.messages import FromMaster


class Tell(NamedTuple):
    """Say this to a session, if it can be reached; else nothing is owed."""

    session: bytes
    message: FromMaster


class Note(NamedTuple):
    """Something worth a log line: a name, a session, and what there is to say."""

    name: str
    session: bytes
    fields: dict[str, Any]


class Host(Protocol):
    """What a grantor asks of the master around it."""

    def newest(self, lo: bytes, hi: bytes) -> int:
        """A tid at or above every one executed here that touched the lease range. The watermark is one; lower saves
        clients from looking again."""
        ...

    def stable(self) -> int:
        """The watermark: everything decided at or below is known and executed here."""
        ...

    def clock(self) -> int:
        """The newest tick of the clock."""
        ...

    def observe(self, tid: int) -> None:
        """Propose nothing at or below this tid any more. Within the call, before anything else is proposed."""
        ...
