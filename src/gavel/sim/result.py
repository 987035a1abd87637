"""What came of a run of any of the simulators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass
class Result(Generic[P]):
    """The plan, what did not hold (`property: what`), and what makes two runs the same or tells them apart."""

    plan: P
    violations: list[str]
    digest: str
    events: int
    virtual: int
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def property(self) -> str:
        """The name of the property that the first violation is of; empty without one."""
        return self.violations[0].split(":")[0] if self.violations else ""
