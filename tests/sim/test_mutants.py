"""The checkers are checked: every rule of the quorum is removed in turn, and somebody must notice.

By chance, within so many seeds; or by a schedule that needs it (test_rules.py, test_backplane_holes.py). Which rule is
noticed how is a table of docs/internals/simulator.md, compared with this one.
"""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest

from gavel.quorum.rules import Rules
from gavel.sim.plan import draw
from gavel.sim.simulation import run
from tests.sim.test_rules import SCHEDULES

QUICK = float(os.environ.get("GAVEL_SIM_SECONDS", "0")) < 60 and not os.environ.get("GAVEL_SOAK")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "internals" / "simulator.md"


class Chance(NamedTuple):
    """Noticed within so many seeds from a first one on, with a focus."""

    first: int = 0
    within: int = 60
    focus: str = ""


BY_CHANCE = {
    "durable_promise": Chance(),
    "durable_accept": Chance(),
    "ballot_order": Chance(),
    "voters_by_identity": Chance(),
    "highest_accepted": Chance(),
    "highest_proposal": Chance(),
    "vouch_lists_all": Chance(first=50, within=300),
    "vouch_in_order": Chance(),
    "admission": Chance(),
    "majority_bound": Chance(),
    "undecided_holds": Chance(),
    "ends_executed": Chance(),
    "carry": Chance(focus="members"),
    "seal_stops": Chance(focus="members"),
    "start_reached": Chance(within=300, focus="members"),
    "durable_install": Chance(focus="members"),
}
NOT_NEEDED = {
    "vouch_accepted",  # a vouching majority meets the one that proposed in somebody who names it; this names it sooner
    "durable_settled",  # with `closed`, a life that ended below the durable watermark needs no decision any more
}


def test_every_rule_is_accounted_for() -> None:
    known = {field.name for field in fields(Rules)}
    assert BY_CHANCE.keys() | SCHEDULES.keys() | NOT_NEEDED == known
    assert not NOT_NEEDED & (BY_CHANCE.keys() | SCHEDULES.keys())


def test_the_page_says_how_each_rule_is_noticed() -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| (chance|schedule|both|not needed)", PAGE.read_text(), re.MULTILINE))
    assert said == {
        field.name: "both" if field.name in BY_CHANCE and field.name in SCHEDULES
        else "chance" if field.name in BY_CHANCE
        else "schedule" if field.name in SCHEDULES
        else "not needed"
        for field in fields(Rules)
    }  # fmt: skip


@pytest.mark.skipif(QUICK, reason="`make test` runs it")
@pytest.mark.parametrize("rule", BY_CHANCE)
def test_a_removed_rule_is_noticed_by_chance(rule: str) -> None:
    chance = BY_CHANCE[rule]
    for seed in range(chance.first, chance.first + chance.within):
        if run(draw(seed, focus=chance.focus, without=frozenset([rule]))).violations:
            return
    pytest.fail(f"{chance.within} seeds hold without {rule}")
