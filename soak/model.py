"""What a directory should hold, and in what it differs from what it does hold.

A tree is a dict of immutable values, so that a copy of the dict is a state that can be kept for later.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class File(NamedTuple):
    """A regular file."""

    content: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()  # in the order of their names


class Link(NamedTuple):
    """A symbolic link."""

    target: str


class Directory(NamedTuple):
    """A directory; what is in it has paths of its own."""


Tree = dict[str, File | Link | Directory]  # by path below the directory


class Mismatch(Exception):
    """The filesystem shows something else than what was done to it."""


def inside(tree: Tree, path: str) -> list[str]:
    """A path and everything below it."""
    return [one for one in tree if one == path or one.startswith(path + "/")]


def compare(directory: Path, tree: Tree, closely: Iterable[str] | None = None) -> None:
    """Raise Mismatch unless the directory holds exactly this tree.

    Names, kinds and sizes are compared of everything, content and xattrs of the paths in `closely` (None: of all).
    """
    found = dict(_walk(directory, ""))
    if found.keys() != tree.keys():
        lacking, more = sorted(tree.keys() - found.keys())[:5], sorted(found.keys() - tree.keys())[:5]
        raise Mismatch(f"{directory}: lacks {lacking}, has {more} that should not be there")
    for path, entry in found.items():
        meant = tree[path]
        kind = Directory if entry.is_dir(follow_symlinks=False) else Link if entry.is_symlink() else File
        if not isinstance(meant, kind):
            raise Mismatch(f"{directory}/{path}: is a {kind.__name__}, should be a {type(meant).__name__}")
        if isinstance(meant, File) and entry.stat(follow_symlinks=False).st_size != len(meant.content):
            size = entry.stat(follow_symlinks=False).st_size
            raise Mismatch(f"{directory}/{path}: has {size} bytes, should have {len(meant.content)}")
    for path in tree if closely is None else closely:
        compare_one(directory / path, tree[path])


def compare_one(path: Path, meant: File | Link | Directory) -> None:
    """Raise Mismatch unless there is exactly this at a path."""
    if isinstance(meant, Link):
        target = os.readlink(path)
        if target != meant.target:
            raise Mismatch(f"{path}: leads to {target!r}, should lead to {meant.target!r}")
    elif isinstance(meant, File):
        compare_content(path, path.read_bytes(), meant.content)
        names = sorted(name for name in os.listxattr(path) if name.startswith("user."))
        xattrs = tuple((name, os.getxattr(path, name)) for name in names)
        if xattrs != meant.xattrs:
            raise Mismatch(f"{path}: has the xattrs {xattrs}, should have {meant.xattrs}")


def compare_content(path: Path, found: bytes, meant: bytes) -> None:
    """Raise Mismatch, saying where the first difference is, unless the bytes are the same."""
    if found == meant:
        return
    first = next((at for at, pair in enumerate(zip(found, meant, strict=False)) if pair[0] != pair[1]), None)
    where = "as far as the shorter one goes they agree" if first is None else f"they differ from byte {first} on"
    raise Mismatch(f"{path}: {len(found)} bytes were read, {len(meant)} written; {where}")


def _walk(directory: Path, under: str) -> Iterable[tuple[str, os.DirEntry[str]]]:
    with os.scandir(directory / under) as entries:
        listed = list(entries)
    for entry in listed:
        path = f"{under}/{entry.name}" if under else entry.name
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(directory, path)
