"""The simulated network: each fault does what it says, and nothing else."""

from __future__ import annotations

from gavel.sim.network import FLIGHT_MAX, Network, Weather
from gavel.sim.world import MILLISECOND, SECOND, World

Arrived = list[tuple[int, int, int, bytes]]


def make(weather: Weather, seed: int = 1) -> tuple[World, Network, Arrived]:
    world = World(seed)
    arrived: Arrived = []
    return world, Network(world, lambda a, b, m: arrived.append((world.now, a, b, m)), weather), arrived


def numbers(arrived: Arrived) -> list[int]:
    return [int(message) for _, _, _, message in arrived]


def send(network: Network, count: int = 200) -> None:
    for number in range(count):
        network.send(1, 2, b"%d" % number)


def test_on_an_ordered_link_nothing_overtakes() -> None:
    world, network, arrived = make(Weather(delay=10, jitter=1000, late=0.3))
    send(network)
    world.run(SECOND)
    assert numbers(arrived) == list(range(200))
    assert all((source, target) == (1, 2) for _, source, target, _ in arrived)


def test_without_order_messages_overtake_and_all_arrive() -> None:
    world, network, arrived = make(Weather(delay=10, jitter=1000, ordered=False))
    send(network)
    world.run(SECOND)
    assert numbers(arrived) != list(range(200)) and sorted(numbers(arrived)) == list(range(200))


def test_loss_and_doubling() -> None:
    world, network, arrived = make(Weather(loss=0.5))
    send(network)
    world.run(SECOND)
    assert 50 < len(arrived) < 150 and network.lost == 200 - len(arrived)
    world, network, arrived = make(Weather(double=0.5))
    send(network)
    world.run(SECOND)
    assert 250 < len(arrived) < 350 and set(numbers(arrived)) == set(range(200))


def test_a_cut_is_of_one_direction_and_takes_what_is_under_way() -> None:
    world, network, arrived = make(Weather(delay=10, jitter=0))
    network.send(1, 2, b"under way")
    network.cut(1, 2)
    network.send(1, 2, b"cut")
    network.send(2, 1, b"back")
    world.run(100)
    network.mend(1, 2)
    network.send(1, 2, b"mended")
    world.run(200)
    assert arrived == [(10, 2, 1, b"back"), (110, 1, 2, b"mended")]


def test_a_clog_holds_back_and_loses_nothing() -> None:
    world, network, arrived = make(Weather(delay=10, jitter=0))
    network.send(1, 2, b"0")
    network.clog(1, 2)
    network.send(1, 2, b"1")
    world.run(100)
    assert arrived == []
    network.unclog(1, 2)
    network.send(1, 2, b"2")
    world.run(200)
    assert sorted(numbers(arrived)) == [0, 1, 2] and world.now == 200


def test_a_slow_link_delivers_at_its_bandwidth() -> None:
    world, network, arrived = make(Weather(delay=0, jitter=0, bandwidth=1_000_000))
    for _ in range(3):
        network.send(1, 2, bytes(1000))
    world.run(SECOND)
    assert [when for when, _, _, _ in arrived] == [MILLISECOND, 2 * MILLISECOND, 3 * MILLISECOND]


def test_what_is_under_way_is_bounded() -> None:
    world, network, arrived = make(Weather())
    for _ in range(10):
        network.send(1, 2, bytes(FLIGHT_MAX // 4))
    world.run(SECOND)
    assert len(arrived) == 4 and network.lost == 6
    network.send(1, 2, b"room again")
    world.run(2 * SECOND)
    assert len(arrived) == 5


def test_after_healing_everything_arrives() -> None:
    world, network, arrived = make(Weather(ordered=False))
    network.change(1, 2, Weather(loss=1.0))
    network.cut(1, 2)
    network.clog(2, 1)
    network.send(2, 1, b"7")
    network.heal()
    network.change(1, 2, Weather(loss=1.0))
    send(network)
    world.run(SECOND)
    assert sorted(numbers(arrived)) == sorted([*range(200), 7])
