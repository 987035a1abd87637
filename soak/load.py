"""A worker: does random things in a directory of its own, does the same to a model, and compares the two.

What it does follows from its seed. It knows nothing of mounts but for `Time`, through which it names states of the
past, looks at them and goes back to them; without one it works on any filesystem.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from soak.model import Directory, File, Link, Mismatch, Tree, compare, compare_content, compare_one, inside

KIB = 1024
FILES_MAX = 400  # of a worker; then it removes rather than makes
BIG = (1024 * KIB, 4096 * KIB)
BIG_MAX = 8  # of these at once
SNAPSHOTS_MAX = 4
MOMENTS_MAX = 30
LOOKED_AT = 12  # files of a past state that are read when it is looked at
MARGIN = 15.0  # seconds by which a state must be younger than what is kept, to be counted on


class Time(Protocol):
    """How a worker reaches the past of its directory."""

    kept: float  # seconds for which every state is kept

    def name(self) -> str:
        """Make everything durable; what names this state."""

    def at(self, directory: Path, when: str) -> Path:
        """Where the directory is as it was then."""

    def undo(self, directory: Path, to: str) -> None:
        """Bring the directory back."""

    def snapshot(self, name: str) -> None:
        """Name the present state, for good."""

    def forget(self, name: str) -> None:
        """Delete a snapshot."""


class Moment(NamedTuple):
    """A past state of the directory."""

    name: str
    taken: float  # time.monotonic()
    tree: Tree


class Worker:
    """Works in a directory, which it makes. `hold` says whether to write nothing that takes space for now."""

    def __init__(self, directory: Path, seed: int, past: Time | None, hold: Callable[[], bool] = lambda: False) -> None:
        self.directory, self.random, self.hold = directory, random.Random(seed), hold
        self.tree: Tree = {}
        self.done: Counter[str] = Counter()
        self._past = past
        self._serial = 0
        self._moments: list[Moment] = []
        self._snapshots: list[Moment] = []
        self._works = [*_WORKS, *(_LOOKING_BACK if past is not None else [])]
        self._weights = [weight for weight, _ in self._works]
        directory.mkdir()

    def step(self) -> None:
        """Do one thing; raises Mismatch, OSError."""
        (work,) = self.random.choices([work for _, work in self._works], self._weights)
        if len(self.tree) > FILES_MAX or (work in _TAKES_SPACE and self.hold()):
            self.done["held back"] += 1
            work = Worker.unlink
        if work(self) is not False:
            self.done[work.__name__] += 1

    # -- what to work on

    def at(self, path: str) -> Path:
        return self.directory / path

    def content(self, least: int, most: int) -> bytes:
        """Bytes that compress somewhat, now and then the same as before."""
        size = self.random.randint(least, most)
        source = random.Random(self.random.randrange(50)) if self.random.random() < 0.2 else self.random
        piece = source.randbytes(min(size, 3000))
        return (piece * (size // max(len(piece), 1) + 1))[:size] if size < 64 * KIB else source.randbytes(size)

    def fresh(self) -> str:
        """A path that is free, in some directory."""
        self._serial += 1
        places = [path for path, one in self.tree.items() if isinstance(one, Directory) and path.count("/") < 4]
        name = f"n{self._serial}"
        return self.random.choice([name, *(f"{place}/{name}" for place in places)])

    def some(self, kind: type[File | Link | Directory]) -> str | None:
        found = [path for path, one in self.tree.items() if isinstance(one, kind)]
        return self.random.choice(found) if found else None

    def file(self) -> tuple[str, File] | None:
        path = self.some(File)
        found = None if path is None else self.tree[path]
        return (path, found) if path is not None and isinstance(found, File) else None

    # -- files

    def make(self) -> None:
        path, content = self.fresh(), self.content(0, 24 * KIB)
        self.at(path).write_bytes(content)
        self.tree[path] = File(content)

    def make_big(self) -> bool:
        if sum(isinstance(one, File) and len(one.content) >= BIG[0] for one in self.tree.values()) >= BIG_MAX:
            return False
        path, content = self.fresh(), self.content(*BIG)
        self.at(path).write_bytes(content)
        self.tree[path] = File(content)
        return True

    def overwrite(self) -> bool:
        chosen = self.file()
        if chosen is None:
            return False
        path, file = chosen
        at, piece = self.random.randint(0, len(file.content)), self.content(1, 16 * KIB)
        with open(self.at(path), "r+b", buffering=0) as handle:
            assert os.pwrite(handle.fileno(), piece, at) == len(piece)
        content = file.content[:at] + piece + file.content[at + len(piece) :]
        self.tree[path] = file._replace(content=content)
        return True

    def append(self) -> bool:
        """A few records, each durable before the next."""
        chosen = self.file()
        if chosen is None or len(chosen[1].content) > BIG[1]:
            return False
        path, file = chosen
        content = file.content
        with open(self.at(path), "ab", buffering=0) as handle:
            for _ in range(self.random.randint(1, 3)):
                record = self.content(1, 2 * KIB)
                handle.write(record)
                os.fsync(handle.fileno())
                content += record
        self.tree[path] = file._replace(content=content)
        return True

    def truncate(self) -> bool:
        chosen = self.file()
        if chosen is None:
            return False
        path, file = chosen
        size = self.random.randint(0, len(file.content) + 8 * KIB)
        os.truncate(self.at(path), size)
        self.tree[path] = file._replace(content=file.content[:size].ljust(size, b"\0"))
        return True

    def replace(self) -> bool:
        """What an editor does: write beside it, make that durable, rename it over the old one."""
        chosen = self.file()
        if chosen is None:
            return False
        path, content = chosen[0], self.content(0, 32 * KIB)
        beside = self.at(path + ".new")
        with open(beside, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        beside.rename(self.at(path))
        self.tree[path] = File(content)
        return True

    def read(self) -> bool:
        """Compare a file with what it should be; half of the time not with what the kernel remembers of it."""
        chosen = self.file()
        if chosen is None:
            return False
        path, file = chosen
        if self.random.random() < 0.5:
            with open(self.at(path), "rb", buffering=0) as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        compare_one(self.at(path), file)
        return True

    def orphan(self) -> bool:
        """Go on with a file that has no name any more."""
        chosen = self.file()
        if chosen is None:
            return False
        path, file = chosen
        with open(self.at(path), "r+b", buffering=0) as handle:
            self.at(path).unlink()
            del self.tree[path]
            os.pwrite(handle.fileno(), b"still here", len(file.content))
            self.make()
            found = os.pread(handle.fileno(), len(file.content) + 100, 0)
            compare_content(self.at(path), found, file.content + b"still here")
        return True

    # -- names

    def rename(self) -> bool:
        """Another name; now and then that of another file, which goes."""
        old = self.some(Directory) if self.random.random() < 0.2 else self.some(File)
        if old is None:
            return False
        other = self.some(File) if isinstance(self.tree[old], File) and self.random.random() < 0.3 else None
        new = other or self.fresh()
        if new.startswith(old + "/") or new == old:
            return False
        self.at(old).rename(self.at(new))
        moved = {path: self.tree.pop(path) for path in inside(self.tree, old)}
        self.tree.update({new + path[len(old) :]: one for path, one in moved.items()})
        return True

    def unlink(self) -> bool:
        path = self.some(File) or self.some(Link)
        if path is None:
            return False
        self.at(path).unlink()
        del self.tree[path]
        return True

    def mkdir(self) -> None:
        path = self.fresh()
        self.at(path).mkdir()
        self.tree[path] = Directory()

    def remove_tree(self) -> bool:
        top = self.some(Directory)
        if top is None:
            return False
        for path in sorted(inside(self.tree, top), reverse=True):
            self.at(path).rmdir() if isinstance(self.tree[path], Directory) else self.at(path).unlink()
            del self.tree[path]
        return True

    def symlink(self) -> None:
        path, target = self.fresh(), "x" * self.random.randint(1, 300)
        self.at(path).symlink_to(target)
        self.tree[path] = Link(target)

    def xattr(self) -> bool:
        chosen = self.file()
        if chosen is None:
            return False
        path, file = chosen
        xattrs, name = dict(file.xattrs), f"user.{self.random.randrange(6)}"
        if name in xattrs and self.random.random() < 0.5:
            os.removexattr(self.at(path), name)
            del xattrs[name]
        else:
            xattrs[name] = self.content(0, 600)
            os.setxattr(self.at(path), name, xattrs[name])
        self.tree[path] = file._replace(xattrs=tuple(sorted(xattrs.items())))
        return True

    def compare(self) -> None:
        """Compare everything."""
        compare(self.directory, self.tree)

    # -- the past

    def remember(self) -> bool:
        """Name this state; the states that are remembered reach back to some that are not kept any more."""
        assert self._past is not None
        if self._moments and time.monotonic() - self._moments[-1].taken < self._past.kept / (MOMENTS_MAX / 2):
            return False
        self._moments.append(Moment(self._past.name(), time.monotonic(), dict(self.tree)))
        del self._moments[:-MOMENTS_MAX]
        return True

    def look_back(self) -> bool:
        """Compare a state of the past with what was then. It may be refused, if it is older than what is kept."""
        assert self._past is not None
        if not self._moments:
            return False
        moment = self.random.choice(self._moments)
        try:
            self._look(moment)
        except (OSError, Mismatch) as error:
            if not isinstance(error, OSError) or self._counts(moment):
                raise Mismatch(f"as of {moment.name}, {time.monotonic() - moment.taken:.0f} s ago: {error}") from error
            self._moments.remove(moment)
            self.done["pruned"] += 1
        return True

    def look_at_snapshot(self) -> bool:
        if not self._snapshots:
            return False
        self._look(self.random.choice(self._snapshots))
        return True

    def snapshot(self) -> None:
        assert self._past is not None
        self._serial += 1
        moment = Moment(f"{self.directory.name}-{self._serial}", time.monotonic(), dict(self.tree))
        self._past.snapshot(moment.name)
        self._snapshots.append(moment)
        if len(self._snapshots) > SNAPSHOTS_MAX:
            gone = self._snapshots.pop(self.random.randrange(SNAPSHOTS_MAX))
            self._past.forget(gone.name)

    def undo(self) -> bool:
        """Bring everything back to a state that is certainly kept, or to a snapshot."""
        assert self._past is not None
        young = [one for one in self._moments if time.monotonic() - one.taken < self._past.kept / 2]
        if not young + self._snapshots:
            return False
        moment = self.random.choice(young + self._snapshots)
        self._past.undo(self.directory, moment.name)
        self.tree = dict(moment.tree)
        try:
            self.compare()
        except Mismatch as error:
            raise Mismatch(f"after undo to {moment.name}: {error}") from error
        return True

    def _look(self, moment: Moment) -> None:
        assert self._past is not None
        closely = self.random.sample(sorted(moment.tree), min(LOOKED_AT, len(moment.tree)))
        compare(self._past.at(self.directory, moment.name), moment.tree, closely)

    def _counts(self, moment: Moment) -> bool:
        assert self._past is not None
        return time.monotonic() - moment.taken < self._past.kept - MARGIN


_WORKS: list[tuple[int, Callable[[Worker], bool | None]]] = [
    (200, Worker.make),
    (8, Worker.make_big),
    (120, Worker.overwrite),
    (60, Worker.append),
    (30, Worker.truncate),
    (50, Worker.replace),
    (150, Worker.read),
    (10, Worker.orphan),
    (90, Worker.rename),
    (100, Worker.unlink),
    (20, Worker.mkdir),
    (6, Worker.remove_tree),
    (20, Worker.symlink),
    (80, Worker.xattr),
    (2, Worker.compare),
]
_LOOKING_BACK: list[tuple[int, Callable[[Worker], bool | None]]] = [
    (6, Worker.remember),
    (8, Worker.look_back),
    (4, Worker.look_at_snapshot),
    (2, Worker.snapshot),
    (2, Worker.undo),
]
_TAKES_SPACE = {Worker.make, Worker.make_big, Worker.overwrite, Worker.append, Worker.replace}
