"""How things are shown to people."""

import errno

import pytest

from gavel.cli import output
from gavel.cli.volumes import parse_size
from gavel.errors import BadRequest, BadWhen, Damaged, VolumeBusy, VolumeFull
from gavel.node import protocol
from gavel.node.protocol import sentence


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (64 * 1024**3, "64.0 GiB"),
        (2**63, "8.0 EiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert output.size(number) == text


@pytest.mark.parametrize(("text", "number"), [("64G", 1 << 36), ("1.5m", 3 << 19), ("7", 7), ("2KiB", 2048)])
def test_sizes_as_people_write_them(text: str, number: int) -> None:
    assert parse_size(text) == number


@pytest.mark.parametrize("text", ["", "G", "nan", "inf", "-1", "0", "1 2", "1GG"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_size(text)


def test_control_characters_never_reach_the_terminal() -> None:
    assert output.printable("a\x1b[31mb\nc\udcff") == "a\\x1b[31mb\\nc\\udcff"
    assert output.printable("grüße 日本") == "grüße 日本"


def test_counting_words() -> None:
    assert (output.count(1, "change"), output.count(1200, "change")) == ("1 change", "1,200 changes")


def test_codes_are_the_same_for_errors_from_the_socket() -> None:
    for problem, code in (
        (BadWhen("x", "is no time"), output.USAGE),
        (VolumeBusy("v", 1), output.BUSY),
        (Damaged("node", 5), output.DAMAGED),
        (VolumeFull(0, 1), output.FULL),
        (FileNotFoundError(2, "No such file", "a"), output.NOT_FOUND),
        (OSError(errno.ENOSPC, "No space", "a"), output.FULL),
        (OSError(errno.EIO, "Input/output error", "a"), output.DAMAGED),
        (OSError(errno.EROFS, "Read-only", "a"), output.FAILED),
        (ZeroDivisionError(), output.FAILED),
    ):
        assert output.exit_code(problem) == code
        assert output.exit_code(protocol.refusal(protocol.error_of(problem))) == code


def test_sentences() -> None:
    assert sentence(FileNotFoundError(2, "No such file or directory", "a")) == "a: No such file or directory"
    assert sentence(OSError(18, "Invalid link", "a", None, b"b")) == "a -> b: Invalid link"
    assert sentence(OSError(5, None)) == "EIO"
    assert sentence(KeyError()) == "KeyError"
