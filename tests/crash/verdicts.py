"""What must hold of a volume after a crash, one function for each verdict; each raises AssertionError.

- it opens, and all of it can be read
- `check --deep` finds nothing
- what was synced is there: nothing is older than it was when the last sync returned
- every operation is whole: what it changed is all as before it, or all as after it (or as later ones left it)
- order is kept: what is there is the state after some prefix of the operations
- a snapshot shows what it named

The last three of the present are ever stronger; they are told apart because a failure then says what broke.
"""

from __future__ import annotations

from typing import NamedTuple

from gavel.errors import GavelError
from tests.crash.machine import AnyDevice, Ledger, Machine
from tests.crash.simulated import State, state


class Cut(NamedTuple):
    """A device as a power cut left it, and what had been promised and done by then."""

    device: AnyDevice
    ledger: Ledger
    promised: int  # the number of the last operation that was promised to be durable
    latest: int  # that of the last one that had ended; one more may have been under way
    now: int


class Found(NamedTuple):
    """What was opened after a cut, and what it shows."""

    machine: Machine
    state: State


def opens(cut: Cut) -> Found:
    """The volume opens, and everything in it can be read."""
    try:
        machine = Machine(cut.device, cut.now)
        return Found(machine, machine.state())
    except (GavelError, OSError) as error:
        raise AssertionError(f"it does not open: {error}") from error


def check_is_clean(found: Found, cut: Cut) -> None:
    """`gavel check --deep` has nothing to say: headers, map, counts, trees, filesystem, data of present and past."""
    problems = found.machine.fs.check(deep=True)
    assert problems == [], f"check --deep: {problems[0]}"


def fsynced_is_there(found: Found, cut: Cut) -> None:
    """Every path is as it was when the last sync returned, or as it became later."""
    since = possible(cut)
    if found.state in since:
        return
    for path in sorted(set().union(found.state, *since)):
        now = found.state.get(path)
        assert any(held.get(path) == now for held in since), f"{path} is older than what was synced, or never was so"


def operations_are_whole(found: Found, cut: Cut) -> None:
    """Of no operation there is a part: there is one moment at which all that it touched was as it is now."""
    states = cut.ledger.states[: cut.latest + 2]
    if found.state in states:
        return
    for number in range(1, len(states)):
        before, after = states[number - 1], states[number]
        touched = [path for path in {**before, **after} if before.get(path) != after.get(path)]
        whole = any(all(held.get(path) == found.state.get(path) for path in touched) for held in states)
        assert whole, f"operation {number} is there in part: {touched}"


def order_is_kept(found: Found, cut: Cut) -> None:
    """What is there is the state after the operations up to one of them, and not before the last that was promised."""
    assert found.state in possible(cut), "no prefix of the operations leads to this state"


def snapshots_show_what_they_named(found: Found, cut: Cut) -> None:
    """Every snapshot that is there can be read, and is the state that was named."""
    for snapshot in found.machine.fs.snapshot_list():
        then = state(found.machine.engine, snapshot.tid)
        assert then == cut.ledger.named[snapshot.name], f"snapshot {snapshot.name} shows another state"


def possible(cut: Cut) -> list[State]:
    """The states that may be there after a cut."""
    return cut.ledger.states[cut.promised : cut.latest + 2]


VERDICTS = (
    check_is_clean, fsynced_is_there, operations_are_whole, order_is_kept, snapshots_show_what_they_named,
)  # fmt: skip


def judge(cut: Cut) -> Found:
    """All verdicts on what a cut left; what was opened, to be lived on with."""
    found = opens(cut)
    for verdict in VERDICTS:
        verdict(found, cut)
    return found


def goes_on(found: Found) -> None:
    """What a crash left takes more, and that survives the next crash."""
    machine = found.machine
    machine.tree = {}
    content = b"after the crash " * 300
    machine.fs.write_bytes("life goes on", content)
    machine.sync()
    expected = machine.state()
    machine.stop()
    again = Machine(machine.device.crash(keep=0.0), machine.shell.clock())
    assert again.state() == expected and again.fs.read_bytes("life goes on") == content
    assert again.fs.check(deep=True) == []
    again.stop()
