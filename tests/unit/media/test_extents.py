"""Extents on their way to the medium and back: compressed where it pays, and never believed."""

from contextlib import suppress
from random import Random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from gavel.errors import Damaged
from gavel.limits import COMPRESS_MIN, EXTENT_MAX
from gavel.media.extents import RAW, ZSTD, Compressor, Extent, decode, encode_view, restore

TEXT = b"all work and no play makes a dull volume\n" * 400


def packed(data: bytes) -> tuple[Extent, bytes]:
    stored = Compressor().compress(data)
    assert stored is not None
    return Extent(4096, len(stored), len(data), ZSTD, xxh3_128_digest(data)), stored


def test_what_shrinks_comes_back_identical() -> None:
    extent, stored = packed(TEXT)
    assert len(stored) < len(TEXT) // 8
    assert restore(extent, stored) == TEXT
    assert restore(extent, memoryview(stored)) == TEXT
    assert decode(encode_view(extent, 5, 10)).extent == extent


@pytest.mark.parametrize("size", [1, COMPRESS_MIN - 1, EXTENT_MAX + 1])
def test_too_few_or_too_many_bytes_are_left_alone(size: int) -> None:
    assert Compressor().compress(bytes(size)) is None


def test_what_does_not_shrink_by_an_eighth_is_left_alone() -> None:
    noise = Random(1).randbytes(EXTENT_MAX)
    compress = Compressor().compress
    assert compress(noise) is None
    assert compress(noise[: EXTENT_MAX - 8192] + bytes(8192)) is None
    assert compress(noise[: EXTENT_MAX - 32_768] + bytes(32_768)) is not None


def test_a_frame_that_claims_another_size_is_damage_and_takes_no_memory() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * 1024 * 1024))
    assert len(bomb) < 10_000
    extent = Extent(4096, len(bomb), EXTENT_MAX, ZSTD, bytes(16))
    with pytest.raises(Damaged):
        restore(extent, bomb)
    with pytest.raises(Damaged):
        restore(extent._replace(length=64 * 1024 * 1024), bomb)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    with pytest.raises(Damaged):
        restore(Extent(4096, len(unsized), len(TEXT), ZSTD, xxh3_128_digest(TEXT)), unsized)


def test_codecs_that_nobody_knows_are_damage() -> None:
    extent, stored = packed(TEXT)
    for codec in (RAW, 2, 255):
        with pytest.raises(Damaged):
            restore(extent._replace(codec=codec), stored)


@given(st.data())
def test_any_rot_is_noticed(data: st.DataObject) -> None:
    extent, stored = packed(TEXT)
    at = data.draw(st.integers(0, len(stored) - 1))
    bad = stored[:at] + bytes([stored[at] ^ data.draw(st.integers(1, 255))]) + stored[at + 1 :]
    with suppress(Damaged):
        assert restore(extent, bad) == TEXT  # a bit of the frame's head that means nothing


@given(st.binary(max_size=200))
def test_anything_else_than_a_frame_is_damage(stored: bytes) -> None:
    with pytest.raises(Damaged):
        restore(Extent(4096, len(stored), 5000, ZSTD, bytes(16)), stored)
