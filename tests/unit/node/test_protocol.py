"""The admin protocol and the calls behind it, on a volume in memory."""

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from gavel.client.fs import Fs
from gavel.client.results import Progress
from gavel.errors import BadRequest, BadWhen, Collision
from gavel.node import protocol
from gavel.node.launch import Options, parse
from gavel.node.service import Service
from gavel.node.steps import Durable, Item
from tests.contracts.api import formatted, opened


def test_lines_there_and_back() -> None:
    message = {"call": "history", "args": {"path": "/gr\u00fc\udcff\n"}}
    line = protocol.encode(message)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert protocol.decode(line) == message
    for line in (b"\n", b"[]\n", b"nope\n", b"\xff\xff\n", b""):
        with pytest.raises(BadRequest):
            protocol.decode(line)


def test_errors_keep_their_kind_and_their_words() -> None:
    for problem in (BadWhen("x", "is no time"), Collision(b"k" * 20, 1, 2, ("/a",)), FileNotFoundError(2, "No", "a")):
        refused = protocol.refusal(protocol.error_of(problem))
        assert refused.kind == type(problem).__name__
        assert str(refused) == protocol.sentence(problem)
        assert protocol.error_of(refused) == protocol.error_of(problem)
    assert protocol.error_of(OSError(errno.EROFS, "ro"))["errno"] == errno.EROFS


@pytest.fixture
def fs() -> Iterator[Fs]:
    with opened(formatted()) as volume:
        yield volume


def call(fs: Fs, name: str, **args: Any) -> tuple[dict[str, Any], list[dict[str, Any]], list[Progress]]:
    """Run a call as LocalSession does: its result, items and progress."""
    job = Service(fs, "volume").start(name, args)
    items, steps = [], []
    answer: int | None = None
    while True:
        try:
            step = job.send(answer)
        except StopIteration as end:
            return end.value, items, steps
        answer = fs.sync() if isinstance(step, Durable) else None
        if isinstance(step, Item):
            items.append(step.value)
        elif isinstance(step, Progress):
            steps.append(step)


def test_calls_list_and_answer(fs: Fs) -> None:
    fs.write_text("a", "one\n")
    first, _, _ = call(fs, "tid")
    fs.write_text("a", "one\ntwo\n")
    fs.write_bytes("b", b"\0binary")
    fs.sync()
    fs.write_bytes("b", b"\0other!")
    _, versions, _ = call(fs, "history", path="/a")
    assert [one["size"] for one in versions] == [4, 8]
    result, found, _ = call(fs, "diff", path="/", old=first["tid"], lines=True)
    assert [(one["path"], one["lines"]) for one in found] == [("a", ["@@ -1 +1,2 @@", " one", "+two"]), ("b", [])]
    assert result["old_tid"] == first["tid"]
    _, actions, steps = call(fs, "undo", path="/", to=first["tid"])
    assert {one["path"] for one in actions} >= {"/a", "/b"} and steps
    result, problems, _ = call(fs, "check", deep=True)
    assert (result, problems) == ({"deep": True, "sound": True}, [])


def test_calls_that_are_none(fs: Fs) -> None:
    service = Service(fs, "volume")
    with pytest.raises(BadRequest, match="no call"):
        service.start("rm", {})
    with pytest.raises(BadRequest, match="does not take"):
        service.start("history", {"file": "x"})
    with pytest.raises(BadRequest, match="does not take"):
        service.start("history", {})


def test_a_text_that_changed_a_lot_is_cut(fs: Fs) -> None:
    fs.write_text("a", "".join(f"{number}\n" for number in range(2000)))
    first = fs.tid()
    fs.write_text("a", "".join(f"new {number}\n" for number in range(2000)))
    _, (found,), _ = call(fs, "diff", path="/a", old=f"0x{first:x}", lines=True)
    assert len(found["lines"]) == 401 and "more lines" in found["lines"][-1]


def test_the_command_line_of_the_process() -> None:
    assert parse(["/v", "/d", "--read-only", "--as-of=-5m", "--allow-other", "--ready-fd", "7"]) == (
        Options("/v", "/d", True, "-5m", True),
        7,
    )
    assert parse(["/v", "/d", "--ready-fd=7"]) == (Options("/v", "/d"), 7)
