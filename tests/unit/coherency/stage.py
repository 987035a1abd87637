"""A grantor, or a holder, by itself."""

from __future__ import annotations

from gavel.coherency.grantor import Grantor, Note, Tell
from gavel.coherency.messages import Age, Alive, Ask, FromMaster, Grant, Granted, Recall, Renewed, Token, Want
from gavel.coherency.rules import ALL, Rules

C, D, E = b"C" * 16, b"D" * 16, b"E" * 16
MS = 1_000_000
FIRST = Token(1, 1)


class Site:
    """A master that executes nothing."""

    tick = 10

    def newest(self, lo: bytes, hi: bytes) -> int:
        return 0

    def stable(self) -> int:
        return 0

    def clock(self) -> int:
        self.tick += 1
        return self.tick

    def observe(self, tid: int) -> None:
        self.tick = max(self.tick, tid + 1)


class Stage:
    """One master, at a time that the test says."""

    def __init__(self, rules: Rules = ALL) -> None:
        self.site = Site()
        self.grantor = Grantor(1, self.site, rules)
        self.grantor.enter(1, [1], 0)
        self.numbers = 0
        self.notes: list[Note] = []

    def ask(
        self, session: bytes, *wants: Want, now: int = 0, wide: bool = False, hold: bool = True, after: int = 0
    ) -> list[tuple[bytes, FromMaster]]:
        """What the master says to an ask of just now."""
        self.numbers += 1
        age = Age(self.site.clock(), session)
        self.grantor.hear(session, Ask(self.numbers, age, list(wants), wide, hold, after), now)
        return self.said()

    def said(self) -> list[tuple[bytes, FromMaster]]:
        """What it has said since the last look."""
        found = []
        for one in self.grantor.drain():
            if isinstance(one, Tell):
                found.append((one.session, one.message))
            else:
                self.notes.append(one)
        return found

    def alive(self, session: bytes, now: int, *working: int) -> list[tuple[bytes, FromMaster]]:
        self.grantor.hear(session, Alive(now, 0, list(working)), now)
        return self.said()


def granted(said: list[tuple[bytes, FromMaster]]) -> list[tuple[bytes, list[Granted]]]:
    """To whom what was granted."""
    return [(session, message.ranges) for session, message in said if isinstance(message, Grant)]


def recalled(said: list[tuple[bytes, FromMaster]]) -> list[tuple[bytes, Recall]]:
    """From whom what was recalled."""
    return [(session, message) for session, message in said if isinstance(message, Recall)]


def renewed(sent: int, token: Token = FIRST, epoch: int = 1, voters: tuple[int, ...] = (1,)) -> Renewed:
    """A renewal as of such a keep-alive."""
    return Renewed(sent, token, epoch, list(voters), 5, 6, 0, [])
