"""File objects."""

import errno
import io
import os

import pytest

from gavel.client.fs import Fs


def test_text_and_binary_modes(fs: Fs) -> None:
    with fs.open("a", "w") as file:
        assert isinstance(file, io.TextIOWrapper)
        file.write("één\ntwee\n")
    with fs.open("a") as file:
        assert list(file) == ["één\n", "twee\n"]
    with fs.open("a", "rb") as file:
        assert file.read() == "één\ntwee\n".encode()
    with fs.open("a", "a", newline="\r\n") as file:
        file.write("x\n")  # type: ignore[call-overload]
    assert fs.read_bytes("a").endswith(b"x\r\n")


@pytest.mark.parametrize("mode", ["", "rw", "b", "rbt", "z", "r++", "U"])
def test_bad_modes(fs: Fs, mode: str) -> None:
    with pytest.raises(ValueError, match="mode"):
        fs.open("a", mode)


def test_bad_combinations(fs: Fs) -> None:
    with pytest.raises(ValueError, match="unbuffered text"):
        fs.open("a", "w", buffering=0)
    with pytest.raises(ValueError, match="binary mode"):
        fs.open("a", "wb", encoding="utf-8")
    assert not fs.exists("a"), "a mode that is refused makes no file"


def test_exclusive_creation(fs: Fs) -> None:
    fs.open("a", "x").close()
    with pytest.raises(FileExistsError):
        fs.open("a", "x")


def test_reading_and_writing_at_offsets(fs: Fs) -> None:
    with fs.open("a", "w+b") as file:
        file.write(b"0123456789")
        file.seek(3)
        assert file.read(3) == b"345"
        file.seek(0, io.SEEK_END)
        file.write(b"!")
        file.seek(-2, io.SEEK_END)
        assert file.read() == b"9!"
        file.truncate(4)
        assert file.seek(2) == 2
        assert file.read(100) == b"23"
    assert fs.read_bytes("a") == b"0123"


def test_append_goes_to_the_end_whatever_others_do(fs: Fs) -> None:
    with fs.open("a", "ab", buffering=0) as one, fs.open("a", "ab", buffering=0) as other:
        one.write(b"1")
        other.write(b"2")
        one.write(b"3")
        assert one.tell() == 3
    assert fs.read_bytes("a") == b"123"


def test_a_large_file_through_small_writes(fs: Fs) -> None:
    piece = os.urandom(1000)
    with fs.open("a", "wb") as file:
        for _ in range(1500):
            file.write(piece)
    assert fs.read_bytes("a") == piece * 1500
    with fs.open("a", "rb", buffering=0) as raw:
        assert raw.read(7) == piece[:7]
        assert len(raw.read()) == 1_500_000 - 7
        assert raw.read() == b""


def test_directions_are_kept(fs: Fs) -> None:
    fs.write_bytes("a", b"x")
    with fs.open("a", "rb", buffering=0) as raw, pytest.raises(io.UnsupportedOperation):
        raw.write(b"y")
    with fs.open("a", "wb", buffering=0) as raw:
        with pytest.raises(io.UnsupportedOperation):
            raw.readinto(bytearray(1))  # type: ignore[union-attr]
        with pytest.raises(OSError) as info:
            raw.seek(-1)
        assert info.value.errno == errno.EINVAL
    with pytest.raises(ValueError, match="closed"):
        raw.write(b"")


def test_a_file_outlives_its_name_while_it_is_open(fs: Fs) -> None:
    fs.write_bytes("a", b"content")
    with fs.open("a", "r+b") as file:
        fs.remove("a")
        fs.write_bytes("a", b"another")
        assert file.read() == b"content"
        file.write(b" and more")
        file.seek(0)
        assert file.read() == b"content and more"
        fs.sync()
        records = fs.info().records
    assert fs.read_bytes("a") == b"another"
    fs.sync()
    assert fs.info().records < records, "what nobody holds any more is dropped from the present"
    assert fs.check(deep=True) == []


def test_a_file_opened_as_of_a_time_stays_as_it_was(fs: Fs) -> None:
    tid = fs.write_bytes("a", b"old", sync=True)
    with fs.as_of(tid).open("a", "rb") as file:
        fs.write_bytes("a", b"new")
        assert file.read() == b"old"
    with pytest.raises(OSError) as info:
        fs.as_of(tid).open("a", "w")
    assert info.value.errno == errno.EROFS
    with pytest.raises(OSError) as info:
        fs.open(f"a@@0x{tid:x}", "w")
    assert info.value.errno == errno.EROFS
