"""Commits as log frames and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gavel.errors import Damaged, TooLarge
from gavel.limits import FRAME_MAX, TRANSACTION_MAX
from gavel.replica import journal

writes = st.dictionaries(st.binary(max_size=8), st.one_of(st.none(), st.binary(max_size=8)))


def numbered(frames: list[tuple[int, bytes]], first: int = 1) -> list[tuple[int, int, bytes]]:
    return [(kind, first + n, body) for n, (kind, body) in enumerate(frames)]


@given(st.lists(writes, max_size=4))
def test_what_was_written_is_read(commits: list[dict[bytes, bytes | None]]) -> None:
    frames, expected = [], []
    for tid, made in enumerate(commits, 1):
        keys = sorted(made)
        values = [made[key] for key in keys]
        frames += journal.encode(tid, keys, values)
        expected.append((tid, keys, values))
    assert list(journal.decode(numbered(frames))) == expected


def test_a_large_transaction_takes_several_frames_and_counts_only_whole() -> None:
    keys = [n.to_bytes(4, "big") for n in range(100)]
    values: list[bytes | None] = [bytes(64 * 1024)] * 100
    frames = journal.encode(7, keys, values)
    assert len(frames) > 6
    assert all(len(body) <= FRAME_MAX for _, body in frames)
    assert [kind for kind, _ in frames] == [journal.PART] * (len(frames) - 1) + [journal.COMMIT]
    assert list(journal.decode(numbered(frames))) == [(7, keys, values)]
    cut = numbered(frames[:-1])
    assert list(journal.decode(cut)) == []
    after = journal.encode(8, [b"k"], [b"v"])
    assert list(journal.decode(cut + numbered(after, 100))) == [(8, [b"k"], [b"v"])]


def test_a_transaction_beyond_the_bound_is_refused() -> None:
    count = TRANSACTION_MAX // 65536 + 1
    with pytest.raises(TooLarge):
        journal.encode(1, [n.to_bytes(4, "big") for n in range(count)], [bytes(65536)] * count)


@pytest.mark.parametrize(
    "frame", [(99, 1, b""), (journal.COMMIT, 1, b"\xc1"), (journal.COMMIT, 1, b"\x93\x01\x02\x03")]
)
def test_frames_of_no_known_form_are_damage(frame: tuple[int, int, bytes]) -> None:
    with pytest.raises(Damaged):
        list(journal.decode([frame]))
