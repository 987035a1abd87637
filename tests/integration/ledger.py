"""A workload that says what it does in a ledger on another filesystem, and what a crash may have left of that.

As a program, `ledger.py DIR LEDGER SEED`: works in DIR until that fails, one line in LEDGER before and after each
step. Then `Account` knows which states DIR may be in. What it holds of docs/guide/durability.md:
- what was done before an fsync began is there once that fsync has returned, whoever called it;
- what is there is a state that existed: every operation up to some moment and none after it;
- content counts from the close of the file; of content under way each page is the old one, the new one or empty.
"""

from __future__ import annotations

import errno
import json
import os
import random
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PAGE = 4096
FILES_MAX = 60
NAMES = [f"n{number}" for number in range(40)]

Operation = list[Any]  # a name and its arguments


class Inode(NamedTuple):
    """A regular file."""

    content: bytes = b""
    before: bytes | None = None  # while it is written: what it was
    mode: int = 0o644
    xattrs: tuple[tuple[str, str], ...] = ()


class State(NamedTuple):
    """A tree. Directories are "/", symlinks "-> target", files numbers of inodes."""

    names: dict[str, str | int]
    inodes: dict[int, Inode]
    next: int


EMPTY = State({}, {}, 1)


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


# -- what there is to do


def invent(state: State, rng: random.Random) -> Operation:
    """Something that can be done in this state."""
    files = [path for path, one in state.names.items() if isinstance(one, int)]
    tops = ["", *(path + "/" for path, one in state.names.items() if one == "/" and path.count("/") < 2)]
    free = rng.choice([path for top in tops for name in NAMES if (path := top + name) not in state.names])
    if len(files) < 5:
        return ["write", free, rng.randrange(1 << 30), rng.randrange(3 * PAGE)]
    file, seed = rng.choice(files), rng.randrange(1 << 30)
    size = len(state.inodes[int(state.names[file])].content)
    bare = [path for path, one in state.names.items() if one == "/" and not _below(state, path)]
    works: list[tuple[int, Operation]] = [
        (30 if len(files) < FILES_MAX else 0, ["write", free, seed, rng.choice([100, 3000, 20_000, 200_000])]),
        (1, ["write", free, seed, 3_000_000]),
        (10, ["overwrite", file, rng.randint(0, size), seed, rng.choice([1, 700, 5000, 40_000])]),
        (25, ["append", file, seed, rng.choice([20, 500, 6000])]),
        (10, ["replace", file, seed, rng.choice([0, 900, 30_000])]),
        (5, ["truncate", file, rng.randint(0, 2 * size + 10)]),
        (10, ["rename", file, rng.choice([free, rng.choice(files)])]),
        (15, ["unlink", file]),
        (4, ["link", file, free]),
        (4, ["symlink", free, "to " + free]),
        (4, ["mkdir", free]),
        (3, ["rmdir", rng.choice(bare)] if bare else ["mkdir", free]),
        (5, ["chmod", file, rng.choice([0o600, 0o640, 0o755])]),
        (8, ["setxattr", file, f"user.{rng.randrange(4)}", str(seed)]),
        (8, ["sync", rng.choice(["", *files])]),
    ]
    return rng.choices([work for _, work in works], [weight for weight, _ in works])[0]


def _below(state: State, path: str) -> list[str]:
    return [one for one in state.names if one.startswith(path + "/")]


def steps(state: State, operation: Operation) -> list[State]:
    """The states that an operation goes through, the last one being that after it."""
    name, path, *rest = operation
    names, inodes = dict(state.names), dict(state.inodes)
    number = names.get(path)
    if name == "sync":
        return [state]
    if name in ("write", "replace"):
        return _written(state, path if name == "write" else path + ".new", path, content(*rest))
    if name in ("overwrite", "append"):
        assert isinstance(number, int)
        old = inodes[number]
        at, piece = (rest[0], content(*rest[1:])) if name == "overwrite" else (len(old.content), content(*rest))
        new = old.content[:at] + piece + old.content[at + len(piece) :]
        return [
            state._replace(inodes={**inodes, number: old._replace(content=new, before=before)})
            for before in (old.content, None)
        ]
    if name == "mkdir":
        names[path] = "/"
    elif name == "symlink":
        names[path] = f"-> {rest[0]}"
    elif name == "link":
        names[rest[0]] = names[path]
    elif name in ("unlink", "rmdir"):
        del names[path]
    elif name == "rename":
        if names[path] != names.get(rest[0]):  # two names of one file: nothing happens
            names[rest[0]] = names.pop(path)
    else:
        assert isinstance(number, int)
        inodes[number] = _changed(inodes[number], name, *rest)
    return [State(names, inodes, state.next)]


def _written(state: State, first: str, last: str, new: bytes) -> list[State]:
    """A new file under a name that it may change when its content is complete."""
    number = state.next
    partial = {**state.inodes, number: Inode(new, b"")}
    whole = {**state.inodes, number: Inode(new)}
    names: dict[str, str | int] = {**state.names, first: number}
    found = [State(names, partial, number + 1), State(names, whole, number + 1)]
    if first != last:
        found.append(State({**state.names, last: number}, whole, number + 1))
    return found


def _changed(inode: Inode, name: str, *rest: Any) -> Inode:
    if name == "truncate":
        return inode._replace(content=inode.content[: rest[0]].ljust(rest[0], b"\0"))
    if name == "chmod":
        return inode._replace(mode=rest[0])
    assert name == "setxattr"
    return inode._replace(xattrs=tuple(sorted({**dict(inode.xattrs), rest[0]: rest[1]}.items())))


# -- doing it


class Ledger:
    """Lines in a file that the crash does not touch."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, *line: Any) -> None:
        """A line with the time; there when it returns."""
        text = json.dumps([*line, time.monotonic()]).encode() + b"\n"
        with open(self._path, "ab", buffering=0) as file:
            file.write(text)


def work(top: Path, ledger: Ledger, seed: int, most: int = 1 << 60) -> None:
    """Do `most` operations in a directory, which is made."""
    rng, state = random.Random(seed), EMPTY
    top.mkdir()
    for _ in range(most):
        operation = invent(state, rng)
        ledger.write("begin", operation)
        perform(top, operation, ledger)
        ledger.write("done")
        state = steps(state, operation)[-1]


def perform(top: Path, operation: Operation, ledger: Ledger) -> None:
    """Do it; what it makes durable is noted."""
    name, path, *rest = operation
    at = top / path
    if name == "write":
        with _opened(at, os.O_CREAT | os.O_EXCL) as file:
            file.write(content(*rest))
    elif name == "overwrite":
        with _opened(at) as file:
            os.pwrite(file.fileno(), content(*rest[1:]), rest[0])
    elif name == "append":
        with _opened(at, os.O_APPEND) as file:
            file.write(content(*rest))
            _sync(file.fileno(), ledger, whole=True)
    elif name == "replace":
        beside = top / (path + ".new")
        with _opened(beside, os.O_CREAT | os.O_EXCL) as file:
            file.write(content(*rest))
            _sync(file.fileno(), ledger)
        beside.rename(at)
    elif name == "sync":
        descriptor = os.open(at, os.O_RDONLY)
        try:
            _sync(descriptor, ledger)
        finally:
            os.close(descriptor)
    else:
        {
            "truncate": os.truncate, "rename": os.rename, "unlink": os.unlink, "mkdir": os.mkdir, "rmdir": os.rmdir,
            "chmod": os.chmod,
            "link": lambda old, new: os.link(old, top / new),
            "symlink": lambda new, target: os.symlink(target, new),
            "setxattr": lambda file, attribute, value: os.setxattr(file, attribute, value.encode()),
        }[name](at, *([top / rest[0]] if name == "rename" else rest))  # fmt: skip


def _opened(path: Path, flags: int = 0) -> Any:
    return open(os.open(path, os.O_RDWR | flags, 0o644), "r+b" if not flags & os.O_APPEND else "ab", buffering=0)


def _sync(descriptor: int, ledger: Ledger, whole: bool = False) -> None:
    """fsync; `whole`: the operation under way is complete but for this."""
    ledger.write("syncing", whole)
    os.fsync(descriptor)
    ledger.write("synced")


# -- what may be left of it


class Account:
    """What a ledger says."""

    def __init__(self, path: Path) -> None:
        self.operations: list[Operation] = []
        self.done: list[float] = []  # when each was
        self.synced: list[tuple[float, int]] = []  # of each fsync that returned: its begin, operations complete then
        self.ended: tuple[int, float] | None = None  # the errno with which it ended, and when
        begun = (0.0, 0)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for line in lines:
            if not line.endswith(b"\n"):
                break
            kind, *rest, at = json.loads(line)
            if kind == "begin":
                self.operations.append(rest[0])
            elif kind == "done":
                self.done.append(at)
            elif kind == "syncing":
                begun = (at, len(self.done) + rest[0])
            elif kind == "synced":
                self.synced.append(begun)
            else:
                self.ended = rest[0], at

    def durable(self, others: list[Account]) -> int:
        """How many operations have to be there: those complete before an fsync that returned began, own or others'."""
        moment = max((begun for other in others for begun, _ in other.synced), default=0.0)
        return max([sum(at < moment for at in self.done), *(count for _, count in self.synced)])

    def states(self, least: int) -> Iterator[State]:
        """Every state there may be, oldest first, if so many operations have to be there."""
        state = EMPTY
        for operation in self.operations[:least]:
            state = steps(state, operation)[-1]
        yield state
        for operation in self.operations[least:]:
            for found in steps(state, operation):
                yield found
            state = found

    def check(self, top: Path, others: list[Account]) -> int:
        """The number of the state that is there among those that may be; raises AssertionError if it is none."""
        if not top.exists():
            assert not self.durable(others), f"{top} is gone"
            return 0
        here, why = observed(top), ""
        for number, state in enumerate(self.states(self.durable(others))):
            why = difference(here, state)
            if not why:
                return number
        raise AssertionError(f"{top} is in none of the states that may be; from the last one it differs in: {why}")


Found = tuple[str | int, Inode | None]  # as in State; what a file is


def observed(top: Path) -> dict[str, Found]:
    """Everything in a directory."""
    found: dict[str, Found] = {}
    for directory, _, _ in os.walk(top):
        for entry in os.scandir(directory):
            path = os.path.relpath(entry.path, top)
            about = entry.stat(follow_symlinks=False)
            if entry.is_symlink():
                found[path] = f"-> {os.readlink(entry.path)}", None
            elif entry.is_dir():
                found[path] = "/", None
            else:
                xattrs = [(name, os.getxattr(entry.path, name).decode()) for name in os.listxattr(entry.path)]
                whole = Path(entry.path).read_bytes()
                found[path] = about.st_ino, Inode(whole, None, stat.S_IMODE(about.st_mode), tuple(sorted(xattrs)))
    return found


def difference(here: dict[str, Found], state: State) -> str:
    """In what that is not this state; empty if it is."""
    if here.keys() != state.names.keys():
        return f"names {sorted(here.keys() ^ state.names.keys())}"
    numbers: dict[int, int] = {}
    for path, (one, inode) in here.items():
        meant = state.names[path]
        if not isinstance(meant, int) or not isinstance(one, int):
            if one != meant:
                return f"{path}: is {one!r}, not {meant!r}"
            continue
        assert inode is not None
        if numbers.setdefault(meant, one) != one:
            return f"{path}: is not the file that its other names are"
        should = state.inodes[meant]
        if (inode.mode, inode.xattrs) != (should.mode, should.xattrs):
            return f"{path}: attributes"
        if not _may_be(inode.content, should):
            return f"{path}: content, {len(inode.content)} bytes where there should be {len(should.content)}"
    return "" if len(set(numbers.values())) == len(numbers) else "two files have become one"


def _may_be(found: bytes, should: Inode) -> bool:
    """Whether content is what it should be, or can be on the way there."""
    if found == should.content:
        return True
    if should.before is None or len(found) > max(len(should.before), len(should.content)):
        return False
    for at in range(0, len(found), PAGE):
        page = found[at : at + PAGE]
        sources = (should.content[at : at + PAGE], should.before[at : at + PAGE], b"")
        if not any(page == source[: len(page)].ljust(len(page), b"\0") for source in sources):
            return False
    return len(found) >= len(should.before) or should.before.startswith(found)


if __name__ == "__main__":
    book = Ledger(Path(sys.argv[2]))
    try:
        work(Path(sys.argv[1]), book, int(sys.argv[3]))
    except OSError as problem:
        book.write("ended", problem.errno or errno.EIO)
