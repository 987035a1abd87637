"""The benchmark of this room at its small size, so that it never rots."""

from benchmarks.replica import run


def test_the_benchmark_yields_its_rows() -> None:
    rows = run(large=False)
    assert [row.work for row in rows] == [
        "transaction in a group of three, a master",
        "Commit in a group of one",
        "catching up, teller and taker",
    ]
    assert all(row.gavel > 0 for row in rows)
