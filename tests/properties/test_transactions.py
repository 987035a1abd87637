"""Transactions of several threads of control, interleaved at random, are as if one had come after the other.

Each transaction reads some files and writes some, what it writes depending on what it has read. In the end, running
those that committed one by one, in the order of their tids, must give the same reads and the same files. What collided
must have changed nothing. Plain writes come in between and count as transactions of one write.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gavel.client.fs import Fs
from gavel.client.transactions import Transaction
from gavel.errors import Collision
from tests.contracts.api import formatted, opened

FILES = ("a", "b", "d/c")


@dataclass
class Work:
    """One transaction under way, and what it has seen and done."""

    tx: Transaction
    steps: list[tuple[str, str, str | None]] = field(default_factory=list)


def read(fs: Fs | Transaction, name: str) -> str | None:
    try:
        return fs.read_text(name)
    except FileNotFoundError:
        return None


def write(fs: Fs | Transaction, name: str, text: str | None) -> None:
    if text is not None:
        fs.write_text(name, text)
    elif fs.exists(name):
        fs.remove(name)


names = st.sampled_from(FILES)
steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "read", "write", "remove", "commit", "plain", "sync"]), st.integers(0, 3), names
    ),
    max_size=40,
)


@given(steps)
def test_serializable(plan: list[tuple[str, int, str]]) -> None:
    with opened(formatted()) as fs:
        fs.mkdir("d")
        fs.write_text("a", "start")
        fs.sync()
        state: dict[str, str | None] = {"a": "start"}
        open_: dict[int, Work] = {}
        order: list[tuple[int, list[tuple[str, str, str | None]]]] = []
        for number, (action, slot, name) in enumerate(plan):
            work = open_.get(slot)
            if action == "plain":
                write(fs, name, f"plain {number}")
                order.append((fs.sync(), [("write", name, f"plain {number}")]))
            elif action == "sync":
                fs.sync()
            elif action == "begin" and work is None:
                open_[slot] = Work(fs.transaction())
            elif work is None:
                continue
            elif action == "read":
                work.steps.append(("read", name, read(work.tx, name)))
            elif action in ("write", "remove"):
                text = None if action == "remove" else f"{number} after {read(work.tx, name)}"
                write(work.tx, name, text)
                work.steps.append(("write", name, text))
            elif action == "commit":
                del open_[slot]
                try:
                    order.append((work.tx.commit(), work.steps))
                except Collision:
                    continue
        for work in open_.values():
            work.tx.rollback()
        replay(sorted(order, key=lambda one: one[0]), state)
        assert {name: read(fs, name) for name in FILES} == {name: state.get(name) for name in FILES}
        assert fs.check() == []


def replay(order: list[tuple[int, list[tuple[str, str, str | None]]]], state: dict[str, str | None]) -> None:
    """Run what committed, one after the other: every read must see what it saw."""
    for tid, done in order:
        for action, name, text in done:
            if action == "read":
                assert state.get(name) == text, f"0x{tid:x} read {name}"
            else:
                state[name] = text
