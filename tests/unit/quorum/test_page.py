"""The page in docs/internals says what the code does: its tables name the messages and the rules."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from gavel.quorum import messages
from gavel.quorum.rules import Rules

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "internals" / "quorum.md").read_text()


def rows(heading: str) -> list[list[str]]:
    table = PAGE[PAGE.index(heading) :].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_every_message_is_on_the_page_and_facts_are_marked() -> None:
    told = {row[0]: row[1] == "yes" for row in rows("| message | fact |")}
    assert told == {kind.__name__: kind in messages.FACTS for kind in get_args(messages.Message)}


def test_every_rule_is_on_the_page_with_what_it_prevents() -> None:
    told = rows("| rule | without it |")
    assert [name for name, _ in told] == [field.name for field in fields(Rules)]
    assert all(why for _, why in told)


def test_every_rule_is_asked_for_in_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "src" / "gavel" / "quorum").glob("*.py"))
    assert [f.name for f in fields(Rules) if not re.search(rf"rules\.{f.name}\b", code)] == []
