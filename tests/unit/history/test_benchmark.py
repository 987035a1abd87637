"""The benchmark of this room at its small size, so that it never rots."""

from benchmarks.history import run


def test_the_benchmark_yields_its_rows() -> None:
    rows = run(large=False)
    names = [row.work for row in rows]
    assert names == [
        "put, random keys in batches",
        "get, random, nodes read from the file",
        "get, random within 50,000",
        "get of what is not there",
        "get, random, all nodes in memory",
        "put one by one, ascending",
        "put one by one, random",
        "apply of flushes, as files are made",
        "apply of flushes, all over",
        "as-of get, 2,000 versions",
        "as-of get, 2,000 versions, at near moments",
        "prune of 2,000 versions, the first: 223 dropped",
        "prune of 1,777 versions, again: 0 dropped",
        "prune of 1,797 versions, after changes: 15 dropped",
        "scan of 6,000 records",
        "as-of scan of 6,000 records",
        "memory that these scans added",
        "get among 20,000, anywhere, 72 MiB of nodes",
        "get among 20,000, near each other, 72 MiB of nodes",
        "get among 20,000, anywhere, all nodes in memory",
        "the same, beside trees of as much memory",
    ]
    assert all(row.gavel > 0 and row.ratio > 0 for row in rows if row.unit != "MiB")
