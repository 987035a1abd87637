"""Tokens: one line, once, for a time; whatever is wrong with one is said."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gavel.errors import BadToken
from gavel.node import tokens
from gavel.node.tokens import Token, Tokens
from gavel.wire.messages import Role

NOW = 1_700_000_000
CLUSTER, PIN = bytes(range(16)), bytes(range(32))


def made(folder: Path, seconds: int = 60) -> tuple[Tokens, Token]:
    kept = Tokens(folder / "tokens.json")
    return kept, kept.make("host:1", CLUSTER, PIN, Role.SLAVE, NOW, seconds)


def test_a_line_says_what_the_token_says(tmp_path: Path) -> None:
    _, token = made(tmp_path)
    line = tokens.text(token)
    assert "\n" not in line
    assert tokens.parse(f"  {line}\n") == token


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda line: line[:-5], "not whole"),
        (lambda line: line[:30] + ("A" if line[30] != "A" else "B") + line[31:], "not whole"),
        (lambda line: line + "!", "not whole"),
        (lambda line: "https://example.org", "does not begin"),
        (lambda line: "", "does not begin"),
        (lambda line: "gavel-join-", "not whole|another release"),
        (lambda line: "gavel-join-\N{GREEK SMALL LETTER PI}", "not whole"),
    ],
)
def test_a_line_that_was_not_pasted_as_it_is_says_so(tmp_path: Path, change: object, why: str) -> None:
    _, token = made(tmp_path)
    with pytest.raises(BadToken, match=why):
        tokens.parse(change(tokens.text(token)))  # type: ignore[operator]


def test_it_is_used_by_one_key_only(tmp_path: Path) -> None:
    kept, token = made(tmp_path)
    assert kept.check(token.secret, NOW) is Role.SLAVE
    assert kept.use(token.secret, b"key 1", 7, NOW) == 7
    assert kept.use(token.secret, b"key 1", 8, NOW + 1) == 7  # the answer was lost
    with pytest.raises(BadToken, match="used already"):
        kept.use(token.secret, b"key 2", 9, NOW)
    assert kept.nodes() == {7}
    assert Tokens(tmp_path / "tokens.json").nodes() == {7}


def test_it_expires(tmp_path: Path) -> None:
    kept, token = made(tmp_path)
    kept.check(token.secret, NOW + 59)
    with pytest.raises(BadToken, match="has expired"):
        kept.check(token.secret, NOW + 60)
    with pytest.raises(BadToken, match="has expired"):
        kept.use(token.secret, b"key", 7, NOW + 60)


def test_one_of_another_master_and_a_wrong_secret_are_not_known(tmp_path: Path) -> None:
    kept, token = made(tmp_path)
    for secret in (bytes(32), token.secret[:-1] + b"x", token.secret[:8] + bytes(24)):
        if secret != token.secret:
            with pytest.raises(BadToken, match="not known"):
                kept.check(secret, NOW)


def test_the_file_has_no_secrets_and_is_its_owners(tmp_path: Path) -> None:
    _, token = made(tmp_path)
    path = tmp_path / "tokens.json"
    assert token.secret[8:].hex() not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
