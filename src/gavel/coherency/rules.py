"""The rules whose removal breaks something, by name. All are on in production; the simulator removes one and must
notice.

The names are those of the table in docs/internals/coherency.md, which says what each prevents.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """One attribute a rule; False removes it."""


ALL = Rules()
