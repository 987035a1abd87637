"""Which filesystems are mounted where: /proc/self/mountinfo, read without touching any of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

FILESYSTEM_TYPE = "fuse.gavel"
_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mounted(NamedTuple):
    """One line of mountinfo. `device` is "major:minor", `source` what was mounted (here: the volume's path).

    `root` is the directory of the filesystem that is seen here: not "/" in a bind mount of a part of it.
    """

    number: int
    device: str
    directory: str
    type: str
    source: str
    options: str
    root: str = "/"


def listing() -> list[Mounted]:
    """All mounts of this process's namespace, the latest last."""
    return [_parse(line) for line in os.fsdecode(_MOUNTINFO.read_bytes()).splitlines()]


def ours() -> list[Mounted]:
    """The mounts of GavelFS."""
    return [one for one in listing() if one.type == FILESYSTEM_TYPE]


def at(directory: str | os.PathLike[str]) -> Mounted | None:
    """What is mounted exactly on this directory (the topmost, if several are); works on a dead mount too."""
    wanted = _settled(os.fspath(directory))
    found = [one for one in listing() if one.directory == wanted]
    return found[-1] if found else None


def holding(path: str | os.PathLike[str]) -> Mounted | None:
    """The mount of GavelFS that a path lies in, if any."""
    wanted = _settled(os.fspath(path))
    best: Mounted | None = None
    for one in listing():
        inside = wanted == one.directory or wanted.startswith(one.directory.rstrip("/") + "/")
        if inside and (best is None or len(one.directory) >= len(best.directory)):
            best = one
    return best if best is not None and best.type == FILESYSTEM_TYPE else None


def _settled(path: str) -> str:
    """The absolute path with the symlinks above the last component resolved; the last may be a dead mount."""
    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name) if name else path


def _parse(line: str) -> Mounted:
    fields = line.split(" ")
    tail = fields.index("-", 6)
    number, device, directory, options = int(fields[0]), fields[2], fields[4], fields[5]
    kind, source = fields[tail + 1], _plain(fields[tail + 2])
    return Mounted(number, device, _plain(directory), kind, source, options, _plain(fields[3]))


def _plain(text: str) -> str:
    """A field with its octal escapes (space, tab, newline, backslash) undone."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)
