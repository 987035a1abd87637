"""The checks of what clients did to a cluster find what is wrong; on a volume, where it can be made wrong at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gavel
from soak import histories, workers
from soak.histories import Access
from soak.workers import padded
from soak.workloads import Workload

TOP = "/era"


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[Any]:
    with gavel.open(str(tmp_path / "disk.gavel"), create=True, size=128 << 20) as fs:
        yield fs


@pytest.fixture
def workload(fs: Any, tmp_path: Path) -> Workload:
    """Some work that went well."""
    found = Workload(None, TOP, [tmp_path], 1)  # type: ignore[arg-type]
    found.found(fs)
    work(found, fs)
    found.check(fs)
    return found


def work(workload: Workload, fs: Any) -> None:
    counting, saving, unpacking, registering, listing = (
        next(one for one in workload.workers if type(one) is kind)
        for kind in (workers.Counting, workers.Saving, workers.Unpacking, workers.Registering, workers.Listing)
    )
    fs.write_bytes(f"{TOP}/counter", b"1")
    counting.steps = saving.steps = unpacking.steps = 1
    fs.write_bytes(f"{TOP}/saved/0", workers.saved(0))
    for name, content in workers.FILES.items():
        fs.makedirs(f"{TOP}/unpacked/0/{name.partition('/')[0]}", exist_ok=True)
        fs.write_bytes(f"{TOP}/unpacked/0/{name}", content)
    fs.link(f"{TOP}/unpacked/0/d1/f1", f"{TOP}/unpacked/0/again")
    fs.write_bytes(f"{TOP}/registers/0", padded("1:1"))
    registering.seen[0].append(Access(1.0, 2.0, True, "1:1", "a writer"))  # type: ignore[attr-defined]
    with fs.transaction() as tx:
        tx.write_bytes(f"{TOP}/lists/0", b"2.0.0 ")
    seen = histories.Transaction("2.0", 1.0, 2.0, "committed", {"0": ()}, {"0": "2.0.0"}, fs.sync())
    listing.seen.append(seen)  # type: ignore[attr-defined]


def lying(workload: Workload) -> None:
    (listing,) = (one for one in workload.workers if getattr(one, "seen", None) and isinstance(one, workers.Listing))
    listing.seen[0] = listing.seen[0]._replace(tid=listing.seen[0].tid - 1)


PLANTED: dict[str, Callable[[Any, Workload], Any]] = {
    "an increment is lost": lambda fs, _: fs.write_bytes(f"{TOP}/counter", b"0"),
    "money is made": lambda fs, _: fs.write_bytes(f"{TOP}/bank/1", b"101"),
    "a token is in two places": lambda fs, _: fs.write_bytes(f"{TOP}/places/1/token-0", b""),
    "a token is nowhere": lambda fs, _: fs.unlink(f"{TOP}/places/0/token-0"),
    "a directory is nowhere": lambda fs, _: fs.rename(f"{TOP}/cycle/a", "/elsewhere"),
    "a file is lost": lambda fs, _: fs.unlink(f"{TOP}/saved/0"),
    "a file is another": lambda fs, _: fs.write_bytes(f"{TOP}/saved/0", b"other"),
    "a file of an archive is another": lambda fs, _: fs.write_bytes(f"{TOP}/unpacked/0/d1/f1", b"other"),
    "a link of an archive is lost": lambda fs, _: fs.unlink(f"{TOP}/unpacked/0/again"),
    "a register goes back": lambda fs, _: fs.write_bytes(f"{TOP}/registers/0", padded("new")),
    "an append is lost": lambda fs, _: fs.write_bytes(f"{TOP}/lists/0", b""),
    "a tid is not when it happened": lambda fs, workload: lying(workload),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_is_found(fs: Any, workload: Workload, name: str) -> None:
    PLANTED[name](fs, workload)
    with pytest.raises((AssertionError, FileNotFoundError)):
        workload.check(fs)
