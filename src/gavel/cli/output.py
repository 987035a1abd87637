"""What commands print: JSON for programs, tables for people, one sentence on stderr when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

Json = dict[str, Any]

# Exit codes; the table in docs/guide/commands.md is compared with this one by a test.
OK, FAILED, USAGE, NOT_FOUND, BUSY, DAMAGED, FULL = range(7)

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_CODES = {
    "BadWhen": USAGE,
    "BadRequest": USAGE,
    "TooLarge": USAGE,
    "BadToken": USAGE,
    "KeyNeeded": USAGE,
    "WrongKey": USAGE,
    "NotAVolume": NOT_FOUND,
    "NewerFormat": NOT_FOUND,
    "MemberMissing": NOT_FOUND,
    "HistoryPruned": NOT_FOUND,
    "FileNotFoundError": NOT_FOUND,
    "NotADirectoryError": NOT_FOUND,
    "VolumeBusy": BUSY,
    "Damaged": DAMAGED,
    "DeviceFailed": DAMAGED,
    "VolumeFull": FULL,
    "DeviceFull": FULL,
}
_ERRNO_CODES = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EIO: DAMAGED, errno.EBUSY: BUSY}


def exit_code(problem: BaseException) -> int:
    """The exit code of an error, also of one that came through a mount's socket."""
    from gavel.node.protocol import Refused

    kind = problem.kind if isinstance(problem, Refused) else type(problem).__name__
    number = getattr(problem, "errno", None)
    return _CODES.get(kind) or (_ERRNO_CODES.get(number, FAILED) if isinstance(number, int) else FAILED)


def complain(problem: BaseException) -> None:
    """Say in one sentence on stderr what is wrong."""
    from gavel.node.protocol import sentence

    print(f"gavel: {sentence(problem)}", file=sys.stderr)


def print_json(value: Json) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2))


def console() -> Console:
    """Where tables go. What is not shown on a terminal is never cut to its width."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 10_000
    return Console(highlight=False, soft_wrap=True, width=wide, emoji=False, markup=False)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """A table for people; columns in `right` are flush right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shape = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, heading in enumerate(headings):
        shape.add_column(heading, justify="right" if at in right else "left", overflow="fold")
    for row in rows:
        shape.add_row(*(Text(printable(cell)) for cell in row))
    console().print(shape, soft_wrap=False)


def say(text: str) -> None:
    """A line for people."""
    print(printable(text))


def printable(text: str) -> str:
    """Text that any terminal can show: bytes that are not UTF-8 and control characters become escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def size(number: int | None) -> str:
    """Bytes in the unit that reads best."""
    if number is None:
        return ""
    if number < 1024:
        return f"{number} B"
    power = min((number.bit_length() - 1) // 10, len(_UNITS))
    return f"{number / 1024**power:.1f} {_UNITS[power - 1]}"


def count(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(iso: str) -> str:
    """An ISO time as people read it: local, to the second, without the T."""
    from datetime import datetime

    return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def progress_bar(title: str, shown: bool) -> Iterator[Callable[[Json], None]]:
    """A function to call with each progress; draws a bar on stderr where that is a terminal."""
    if not shown or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown_what = TextColumn("{task.fields[what]}", markup=False)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), shown_what)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, what="")

        def advance(step: Json) -> None:
            bar.update(task, completed=step["done"], total=step["total"], what=printable(step.get("what", "")))

        yield advance
