"""Virtual time and the clocks of hosts."""

from __future__ import annotations

from gavel.sim.clock import HostClock
from gavel.sim.trace import Trace
from gavel.sim.world import SECOND, World


def test_callbacks_run_in_order_of_time_and_of_asking() -> None:
    world, seen = World(1), []
    for name, when in (("late", 30), ("first", 10), ("second", 10), ("past", -5)):
        world.at(when, lambda name=name: seen.append((world.now, name)))
    world.run(20)
    assert seen == [(0, "past"), (10, "first"), (10, "second")] and world.now == 20
    world.after(5, lambda: seen.append((world.now, "after")))
    world.run(40)
    assert seen[3:] == [(25, "after"), (30, "late")] and world.now == 40


def test_streams_are_the_seeds_and_independent() -> None:
    def draw(seed: int, name: str) -> list[float]:
        stream = World(seed).stream(name)
        return [stream.random() for _ in range(3)]

    assert draw(1, "network") == draw(1, "network")
    assert draw(1, "network") != draw(2, "network") and draw(1, "network") != draw(1, "client 1")


def test_the_digest_stands_for_what_happened_and_when_traced_or_not() -> None:
    def run(times: tuple[int, int], trace: Trace | None = None) -> str:
        world = World(1, trace)
        for when in times:
            world.at(when, world.happened, b"x")
            world.at(when, world.tell, "n1", "x")
        world.run(10)
        assert world.events == 2
        return world.digest()

    trace = Trace(kept=1)
    assert run((1, 2)) == run((1, 2), trace) != run((1, 3))
    assert trace.lines() == trace.last(5) == ["       0.000  n1       x"]


def test_a_clock_runs_at_its_rate_and_is_set() -> None:
    world = World(1)
    clock = HostClock(world, wall=500)
    world.run(SECOND)
    assert clock.now() == 500 + SECOND
    clock.set_rate(2_000_000)
    world.run(2 * SECOND)
    assert clock.now() == 500 + 3 * SECOND
    assert clock.true_delay(SECOND) == SECOND // 2 and clock.true_delay(-1) == 0
    clock.step(-2 * SECOND)
    assert clock.now() == 500 + SECOND
    clock.set_rate(500_000)
    assert clock.now() == 500 + SECOND
    world.run(4 * SECOND)
    assert clock.now() == 500 + 2 * SECOND
