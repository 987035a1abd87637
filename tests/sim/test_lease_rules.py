"""Rules of leases that chance may not miss: a transcript is lawful with the rule, and goes wrong without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from gavel.coherency.rules import ALL
from tests.transcripts.lease_script import LeaseScript

TRANSCRIPTS = Path(__file__).resolve().parents[1] / "transcripts" / "leases"


class Schedule(NamedTuple):
    """In this transcript something wrong is said without the rule, or (`lacks`) something right is not."""

    name: str
    says: str = "!! "
    lacks: str = ""


SCHEDULES = {
    "propose_waits": Schedule("write_meets_a_lease", lacks="    1: BUSY"),
    "grants_wait": Schedule("grant_waits_for_a_write", says="C has 1: a S from 0"),
    "fence": Schedule("late_ask", lacks="    1: FENCED"),
    "release_clock": Schedule("release_moves_clock", lacks="    1: GO, clock 92"),
    "new_token": Schedule("late_ask", says="!! C believes 1 to grant a"),
    "frozen": Schedule("unanswered_recall", lacks="1 notes lease.overdue of C"),
    "renewal_recalls": Schedule("lost_recall", lacks="1>C RENEWED as (1, 1); recalled a to S"),
    "overdue_ends": Schedule("unanswered_recall", lacks="    1: FENCED"),
    "grace": Schedule("restart_with_grace", lacks="    1: BUSY"),
    "grace_grants": Schedule("restart_with_grace", says="!! C writes a while D holds it"),
    "queue": Schedule("queue", lacks="    E: nothing"),
    "seal_stops": Schedule("one_epoch", lacks="C lapses: a -"),
    "majority": Schedule("forgotten_grant", says="!! C writes a while D holds it"),
    "one_epoch": Schedule("one_epoch", lacks="C lapses: a -"),
    "from_sent": Schedule("late_keepalive", says="!! C writes a while D holds it"),
    "shortened": Schedule("slow_clock", says="!! D writes a while C holds it"),
    "released_since": Schedule("late_grant", says="!! C writes a while D holds it"),
    "same_token": Schedule("forgotten_grant", says="!! C writes a while D holds it"),
    "tokens_of_grants": Schedule("other_tokens", lacks="    ((1, 1, 1), (2, 1, 1))"),
}


@pytest.mark.parametrize("rule", SCHEDULES)
def test_a_transcript_goes_wrong_without_the_rule(rule: str) -> None:
    schedule = SCHEDULES[rule]
    text = (TRANSCRIPTS / f"{schedule.name}.txt").read_text()
    without = LeaseScript(replace(ALL, **{rule: False})).run(text)
    if schedule.lacks:
        assert schedule.lacks in text and schedule.lacks not in without
    else:
        assert schedule.says not in text and schedule.says in without


def test_a_clock_beyond_the_bound_is_noticed_and_one_within_it_does_no_harm() -> None:
    text = (TRANSCRIPTS / "slow_clock.txt").read_text()
    assert "!!" not in LeaseScript().run(text)
    assert "!! D writes a while C holds it" in LeaseScript().run(text.replace("clock C 98", "clock C 90"))
