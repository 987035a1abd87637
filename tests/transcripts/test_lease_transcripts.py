"""Each transcript says what happens to masters and clients with leases, and what real cores do about it."""

from pathlib import Path

import pytest

from tests.transcripts.lease_script import LeaseScript

HERE = Path(__file__).parent / "leases"
TRANSCRIPTS = sorted(HERE.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_it_happens_as_written(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    told = LeaseScript().run(text)
    rewrite = request.config.getoption("--rewrite", default=False)
    if rewrite:
        path.write_text(told)
    assert told == text or rewrite
    assert "!!" not in told


def test_there_are_some() -> None:
    assert len(TRANSCRIPTS) >= 12
