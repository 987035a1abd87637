"""Rows of results: paired runs, medians, ratios against something measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Row:
    """One figure: GavelFS against what it is compared with, as median rates or times of paired runs."""

    work: str
    unit: str
    gavel: float
    against: str
    other: float
    ratio: float  # above 1: GavelFS is faster (rates) or takes longer (times: unit "s")
    target: str = ""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def row(work: str, unit: str, gavel: Iterable[float], against: str, other: Iterable[float], target: str = "") -> Row:
    """A row of paired measurements; the ratio is the median of the pairs' ratios."""
    ours, theirs = list(gavel), list(other)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return Row(work, unit, statistics.median(ours), against, statistics.median(theirs), ratio, target)


def table(rows: list[Row]) -> str:
    """The rows as people read them."""
    lines = [f"{'work':44} {'gavel':>12} {'other':>12}  {'':10} {'ratio':>6}  target"]
    for r in rows:
        other = f"{r.other:12,.1f}" if r.against else " " * 12
        lines.append(f"{r.work:44} {r.gavel:12,.1f} {other}  {r.against:10} {r.ratio:6.2f}  {r.target} ({r.unit})")
    return "\n".join(lines)


def real_tree() -> list[Path]:
    """Directories of a real tree of files that every checkout has: the environment's own packages and Python's."""
    import sysconfig

    found = [Path(sysconfig.get_paths()[name]) for name in ("purelib", "stdlib")]
    return [path for path in found if path.is_dir()]
