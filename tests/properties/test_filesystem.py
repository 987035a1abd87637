"""Random operations on the filesystem functions and on the model tree: same results, same errnos, same tree.

After each step the whole tree is compared, and which objects' times the step has changed, and every invariant of the
records is checked. GAVEL_SOAK makes it long.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.contracts.adapter import Adapter, Status
from tests.contracts.functions import Functions
from tests.contracts.model import GROUP, MASK, OTHER, OWNER, USER, Model, pack_acl

NOBODY = 0xFFFFFFFF
NAMES = ["a", "b", "c"]
XATTRS = ["user.x", "user.y", "trusted.t", "system.posix_acl_access", "system.posix_acl_default", "user.", "odd"]

Path = int | tuple[int, str] | str

names = st.sampled_from(NAMES)
odd_paths = st.one_of(
    st.builds("/".join, st.lists(names, min_size=1, max_size=3)),
    st.sampled_from(["", "a/../b", "./c", "\udcff\n", "n" * 255, "n" * 256]),
)
# Most steps should do something: a number stands for one of the paths that exist, with a name for one in a directory.
numbers = st.integers(0, 99)
paths: st.SearchStrategy[Path] = st.one_of(numbers, numbers, st.tuples(numbers, names), odd_paths)
fresh: st.SearchStrategy[Path] = st.one_of(st.tuples(numbers, names), st.tuples(numbers, names), numbers, odd_paths)
targets = odd_paths | st.sampled_from(["..", "../a", "/b", "x" * 4096])
perms = st.integers(0, 0o7777)
ids = st.sampled_from([-1, 0, 1000, 4_000_000_000])
content = st.binary(max_size=12) | st.sampled_from([b"k" * 300, b"L" * 200_000])
acls = st.builds(
    lambda user, named, group, mask, other: pack_acl(
        [(OWNER, user, NOBODY)]
        + ([(USER, named, 1000)] if named is not None else [])
        + [(GROUP, group, NOBODY)]
        + ([(MASK, mask, NOBODY)] if mask is not None else [])
        + [(OTHER, other, NOBODY)]
    ),
    st.integers(0, 7),
    st.none() | st.integers(0, 7),
    st.integers(0, 7),
    st.none() | st.integers(0, 7),
    st.integers(0, 7),
)

Tree = dict[str, Status]


def tree(fs: Adapter) -> Tree:
    """The status of everything there is, by path."""
    found: Tree = {"": fs.stat("")}
    todo = [""]
    while todo:
        above = todo.pop()
        for name in fs.listdir(above):
            path = f"{above}/{name}" if above else name
            found[path] = fs.stat(path)
            if stat.S_ISDIR(found[path].mode):
                todo.append(path)
    return found


def shape(found: Tree) -> dict[str, tuple[Any, ...]]:
    """What two trees must have in common: all but numbers and times, and which paths are the same object."""
    first: dict[int, str] = {}
    for path in sorted(found):
        first.setdefault(found[path].object, path)
    return {path: (first[at.object], *at[1:7]) for path, at in found.items()}


def changes(before: Tree, after: Tree) -> dict[str, tuple[bool, bool, bool]]:
    """For each path whose object was there before: which of atime, mtime, ctime differ now."""
    old = {at.object: at for at in before.values()}
    return {
        path: (at.atime != was.atime, at.mtime != was.mtime, at.ctime != was.ctime)
        for path, at in after.items()
        if (was := old.get(at.object)) is not None
    }


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "result", call()
    except OSError as error:
        return "error", error.errno


class FilesystemMachine(RuleBasedStateMachine):
    """The same calls on both sides. Open files are pairs of handles."""

    opened: Bundle[tuple[int, int]] = Bundle("opened")

    @initialize(target=opened, missing=st.booleans())
    def begin(self, missing: bool) -> tuple[int, int]:
        return self.start(Functions(missing), Model())

    def start(self, real: Adapter, model: Adapter) -> tuple[int, int]:
        """From a small tree and an open file, so that most steps find something to work on."""
        self.real, self.model = real, model
        self.open_now: set[tuple[int, int]] = set()
        for fs in (self.real, self.model):
            for path in ("a", "a/b", "a/b/c", "b", "b/a"):
                fs.mkdir(path)
            fs.write("a/a", b"content")
            fs.write("b/b", b"L" * 1000)
            fs.link("a/a", "a/b/b")
            fs.symlink("../a", "b/c")
        self.trees = tree(self.real), tree(self.model)
        return self.both_open(lambda fs: fs.open("b/b", os.O_RDWR))

    def at(self, path: Path) -> str:
        """The path that is meant, as things are now."""
        if isinstance(path, str):
            return path
        found = self.trees[1]
        if isinstance(path, int):
            return sorted(found)[path % len(found)]
        above = sorted(path for path, at in found.items() if stat.S_ISDIR(at.mode))
        return f"{above[path[0] % len(above)]}/{path[1]}".lstrip("/")

    def both(self, call: Callable[[Adapter], Any]) -> Any:
        """Do it on both sides; the same must come of it."""
        real, model = outcome(lambda: call(self.real)), outcome(lambda: call(self.model))
        if real[0] == model[0] == "result" and isinstance(real[1], list):
            real, model = ("result", sorted(real[1])), ("result", sorted(model[1]))
        assert real == model
        return real[1]

    def both_open(self, call: Callable[[Adapter], int]) -> Any:
        """As both, for what returns a handle: the handles of the two sides, or nothing for the bundle."""
        real, model = outcome(lambda: call(self.real)), outcome(lambda: call(self.model))
        assert real[0] == model[0]
        if real[0] == "result":
            self.open_now.add((real[1], model[1]))
            return real[1], model[1]
        assert real[1] == model[1]
        return multiple()

    # Names.

    @rule(path=fresh, mode=perms)
    def mkdir(self, path: Path, mode: int) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.mkdir(at, mode))

    @rule(path=fresh, kind=st.sampled_from([0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR]), mode=perms)
    def mknod(self, path: Path, kind: int, mode: int) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.mknod(at, kind | mode, os.makedev(1, 3)))

    @rule(aim=targets, path=fresh)
    def symlink(self, aim: str, path: Path) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.symlink(aim, at))

    @rule(path=paths, new=fresh)
    def link(self, path: Path, new: Path) -> None:
        at = self.at(path)
        to = self.at(new)
        self.both(lambda fs: fs.link(at, to))

    @rule(path=paths)
    def unlink(self, path: Path) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.unlink(at)) if at else None

    @rule(path=paths)
    def rmdir(self, path: Path) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.rmdir(at)) if at else None

    @rule(path=paths, new=fresh, flags=st.sampled_from([0, 0, 1, 2, 3]))
    def rename(self, path: Path, new: Path, flags: int) -> None:
        at = self.at(path)
        to = self.at(new)
        if at and to:
            self.both(lambda fs: fs.rename(at, to, flags))

    @rule(path=paths)
    def look(self, path: Path) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.readlink(at))
        self.both(lambda fs: fs.listdir(at))
        self.both(lambda fs: fs.listxattr(at))

    # Attributes and content.

    @rule(mask=st.sampled_from([0, 0o022, 0o077]))
    def umask(self, mask: int) -> None:
        self.both(lambda fs: fs.umask(mask))

    @rule(path=paths, mode=perms)
    def chmod(self, path: Path, mode: int) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.chmod(at, mode))

    @rule(path=paths, uid=ids, gid=ids)
    def chown(self, path: Path, uid: int, gid: int) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.chown(at, uid, gid))

    @rule(path=paths, atime=st.integers(-(10**18), 10**18), mtime=st.integers(-(10**18), 10**18))
    def utime(self, path: Path, atime: int, mtime: int) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.utime(at, atime, mtime))

    @rule(path=paths, size=st.sampled_from([0, 1, 5, 300, 131_072, 1 << 20, -1]))
    def truncate(self, path: Path, size: int) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.truncate(at, size))

    @rule(path=fresh, data=content)
    def write(self, path: Path, data: bytes) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.write(at, data))

    @rule(path=paths, name=st.sampled_from(XATTRS), value=acls | st.sampled_from([b"", b"x"]), flags=st.integers(0, 4))
    def setxattr(self, path: Path, name: str, value: bytes, flags: int) -> None:
        at = self.at(path)
        if "acl" in name and (flags or value == b"x"):
            flags, value = 0, b""
        self.both(lambda fs: fs.setxattr(at, name, value, flags))

    @rule(path=paths, name=st.sampled_from(XATTRS))
    def removexattr(self, path: Path, name: str) -> None:
        at = self.at(path)
        self.both(lambda fs: fs.getxattr(at, name))
        self.both(lambda fs: fs.removexattr(at, name))

    # Open files.

    @rule(target=opened, path=fresh, flags=st.sampled_from([0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC]))
    def open(self, path: Path, flags: int) -> Any:
        at = self.at(path)
        return self.both_open(lambda fs: fs.open(at, os.O_RDWR | flags))

    @rule(target=opened, path=paths, mode=st.integers(0, 0o777))
    def tmpfile(self, path: Path, mode: int) -> Any:
        at = self.at(path)
        return self.both_open(lambda fs: fs.tmpfile(at, mode))

    @rule(handles=opened, data=content, offset=st.integers(0, 1000))
    def pwrite(self, handles: tuple[int, int], data: bytes, offset: int) -> None:
        if handles in self.open_now and stat.S_ISREG(self.real.fstat(handles[0]).mode):
            self.real.pwrite(handles[0], data, offset)
            self.model.pwrite(handles[1], data, offset)

    @rule(handles=opened, path=fresh)
    def flink(self, handles: tuple[int, int], path: Path) -> None:
        at = self.at(path)
        if handles in self.open_now:
            mine = {id(self.real): handles[0], id(self.model): handles[1]}
            self.both(lambda fs: fs.flink(mine[id(fs)], at))

    @rule(handles=consumes(opened))
    def close(self, handles: tuple[int, int]) -> None:
        if handles not in self.open_now:
            return
        one, other = self.real.fstat(handles[0]), self.model.fstat(handles[1])
        assert one[1:7] == other[1:7]
        if stat.S_ISREG(one.mode):
            size = one.size
            assert self.real.pread(handles[0], size, 0) == self.model.pread(handles[1], size, 0)
        self._close(handles)

    def _close(self, handles: tuple[int, int]) -> None:
        self.open_now.remove(handles)
        self.real.close(handles[0])
        self.model.close(handles[1])

    @invariant()
    def agree(self) -> None:
        real, model = tree(self.real), tree(self.model)
        assert shape(real) == shape(model)
        assert changes(self.trees[0], real) == changes(self.trees[1], model)
        self.trees = real, model
        self.real.verify()

    def teardown(self) -> None:
        if not hasattr(self, "real"):
            return
        for path, found in tree(self.model).items():
            self.both(lambda fs, path=path: {name: fs.getxattr(path, name) for name in fs.listxattr(path)})
            if stat.S_ISREG(found.mode):
                self.both(lambda fs, path=path: fs.read(path))
        for handles in sorted(self.open_now):
            self._close(handles)
        if isinstance(self.real, Functions):
            self.real.check()


TestFilesystem = FilesystemMachine.TestCase
TestFilesystem.settings = settings(
    max_examples=2000 if os.environ.get("GAVEL_SOAK") else 30,
    stateful_step_count=60 if os.environ.get("GAVEL_SOAK") else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
