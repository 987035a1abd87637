"""A simulated machine around a toy core that counts, durably: what the shell owes a core, and what a crash takes."""

from __future__ import annotations

from typing import Any

from gavel.effects import Arm, Effect, Event, PeerUp, Received, Reply, Requested, Send, Sync, Synced, SyncFailed, Ticked
from gavel.sim.host import Host
from gavel.sim.world import MICROSECOND, MILLISECOND, World


class Counter:
    """Adds a number to its list on request and answers when that is durable; tells peer 2 at once."""

    def __init__(self, disk: Sheet) -> None:
        self.disk = disk
        self.heard: list[Event] = []
        self.waiting: dict[int, Any] = {}
        self.effects: list[Effect] = []

    def step(self, event: Event, now: int) -> None:
        self.heard.append(event)
        if isinstance(event, Requested):
            self.disk.lines.append(event.request)
            ticket = len(self.disk.lines)
            self.waiting[ticket] = event.request
            self.effects += [Sync(ticket), Send(2, event.request), Arm(now + 5 * MILLISECOND)]
        elif isinstance(event, Synced):
            self.effects.append(Reply(self.waiting.pop(event.ticket), "durable"))

    def drain(self) -> list[Effect]:
        effects, self.effects = self.effects, []
        return effects


class Sheet:
    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.durable = 0

    def begin_sync(self) -> int:
        return len(self.lines)

    def end_sync(self, mark: int) -> None:
        self.durable = max(self.durable, mark)

    def crash(self) -> None:
        del self.lines[self.durable :]

    def wipe(self) -> None:
        self.lines, self.durable = [], 0


class Text:
    def encode(self, message: Any) -> bytes:
        return b"%d" % message

    def decode(self, data: bytes) -> Any:
        return int(data)

    def describe(self, message: Any) -> str:
        return str(message)


class System:
    def __init__(self) -> None:
        self.world = World(1)
        self.sheet = Sheet()
        self.posted: list[tuple[int, int, bytes]] = []
        self.answers: list[tuple[int, Any, Any]] = []
        self.host = Host(
            self.world, 1, self.sheet, Text(), lambda host: Counter(self.sheet),
            lambda *letter: self.posted.append(letter),
            lambda host, request, result: self.answers.append((self.world.now, request, result)),
        )  # fmt: skip
        self.host.start()

    @property
    def heard(self) -> list[Event]:
        assert isinstance(self.host.program, Counter)
        return self.host.program.heard


def test_an_answer_waits_for_a_sync_that_began_after_it_was_asked_for() -> None:
    system = System()
    system.host.request(7)
    system.host.request(8)  # while the sync for 7 is under way, so it takes the next
    assert system.posted == [(1, 2, b"7"), (1, 2, b"8")] and system.answers == []
    system.world.run(MILLISECOND)
    assert [request for _, request, _ in system.answers] == [7, 8]
    assert system.answers[1][0] - system.answers[0][0] >= 100 * MICROSECOND


def test_a_crash_forgets_what_was_not_synced_and_its_timers() -> None:
    system = System()
    system.host.request(7)
    system.world.run(MILLISECOND)
    system.host.request(8)
    system.host.crash()
    assert not system.host.up and system.sheet.lines == [7]
    system.host.request(9)
    system.host.receive(2, b"1")
    system.host.start()
    system.world.run(100 * MILLISECOND)
    assert system.heard == [] and system.host.incarnation == 2 and len(system.answers) == 1


def test_a_stopped_process_hears_everything_later() -> None:
    system = System()
    system.host.request(7)
    system.host.stop()
    system.host.receive(2, b"5")
    system.host.peer(2, True)
    system.world.run(10 * MILLISECOND)
    assert system.heard == [Requested(7)] and system.sheet.durable == 1
    system.host.resume()
    assert system.heard[1:] == [Received(2, 5), PeerUp(2), Synced(1), Ticked()]


def test_a_sync_that_fails_ends_the_process_and_loses_the_rest() -> None:
    system = System()
    system.host.fail_next_sync = True
    counter = system.host.program
    system.host.request(7)
    system.world.run(MILLISECOND)
    assert isinstance(counter, Counter) and isinstance(counter.heard[-1], SyncFailed)
    assert not system.host.up and system.sheet.lines == [] and system.answers == []


def test_timers_follow_the_hosts_own_clock() -> None:
    system = System()
    system.host.clock.set_rate(500_000)
    system.host.request(7)
    system.world.run(9 * MILLISECOND)
    assert Ticked() not in system.heard
    system.world.run(10 * MILLISECOND)
    assert Ticked() in system.heard


def test_a_wipe_takes_the_disk() -> None:
    system = System()
    system.host.request(7)
    system.world.run(MILLISECOND)
    system.host.wipe()
    assert system.sheet.lines == []
