"""Each transcript says what happens and what real cores do about it, to the message."""

from pathlib import Path

import pytest

from tests.transcripts.script import Script

HERE = Path(__file__).parent
TRANSCRIPTS = sorted(HERE.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_it_happens_as_written(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    told = Script().run(text)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(told)
    assert told == text or request.config.getoption("--rewrite", default=False)


def test_a_wrong_line_is_noticed() -> None:
    text = (HERE / "normal_commit.txt").read_text()
    wrong = text.replace("committed", "collided", 1)
    assert wrong != text
    assert Script().run(wrong) != wrong
