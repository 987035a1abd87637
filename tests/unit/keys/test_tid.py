"""Tids."""

from gavel.keys import tid


def test_a_tid_names_its_moment_and_its_origin() -> None:
    made = tid.make(1_763_000_000_000_000, 7)
    assert tid.micros(made) == 1_763_000_000_000_000
    assert tid.node(made) == 7
    assert tid.text(made) == f"0x{made:016x}"
    assert made <= tid.end_of(1_763_000_000_000_000) < tid.make(1_763_000_000_000_001)
