"""Paths as the Python API takes and gives them.

A path is str, bytes or os.PathLike, absolute or relative to the root of the volume; both mean the same. Inside it is
UTF-8 bytes without a leading or trailing slash, "" for the root. Names come back as str; bytes that are not UTF-8
survive as surrogate escapes, as in os.fsdecode.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

MARK = b"@@"  # parts a name from a time, see docs/guide/history.md


def encode(path: AnyPath) -> bytes:
    """The path as UTF-8 bytes, without empty and "." components; raises ValueError for a NUL in it."""
    given = os.fspath(path)
    raw = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else bytes(given)
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    if b"//" not in raw and b"." not in raw:
        return raw.strip(b"/")
    return b"/".join(part for part in raw.split(b"/") if part not in (b"", b"."))


def decode(raw: bytes) -> str:
    """Bytes of a name or path as str."""
    return raw.decode("utf-8", "surrogateescape")


def shown(raw: bytes) -> str:
    """A path from the root as people and programs see it: absolute, decoded."""
    return "/" + decode(raw)


def as_given(path: AnyPath) -> str:
    """The path as str, otherwise as the caller wrote it: what paths below it are built on."""
    given = os.fspath(path)
    return given if isinstance(given, str) else decode(given)


def join(base: str, name: str) -> str:
    """Base and name with one slash between them."""
    return name if base in ("", ".") else f"{base.rstrip('/')}/{name}"


def split(raw: bytes) -> tuple[bytes, bytes]:
    """The directory and the last name of an encoded path; raises OSError EBUSY for the root, which has no name."""
    directory, _, name = raw.rpartition(b"/")
    if not name:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/")
    return directory, name


class AsOfPath(NamedTuple):
    """An encoded path cut at its first component with a mark: `before`/`name`@@`when`/`after`."""

    before: bytes
    name: bytes
    when: str
    after: bytes
    literal: bytes  # the component as it stands; a file that really has this name wins


def cut_at_mark(raw: bytes, skip: int = 0) -> AsOfPath | None:
    """Cut a path at its first component with a mark, leaving alone the first `skip` such; None if there is none."""
    if MARK not in raw:
        return None
    parts = raw.split(b"/")
    for at, part in enumerate(parts):
        if MARK not in part:
            continue
        if skip:
            skip -= 1
            continue
        name, _, when = part.rpartition(MARK)
        return AsOfPath(b"/".join(parts[:at]), name, decode(when), b"/".join(parts[at + 1 :]), part)
    return None


def named(problem: OSError, path: AnyPath, path2: AnyPath | None = None) -> OSError:
    """The same error with the paths as the caller wrote them."""
    problem.filename = os.fspath(path)
    if path2 is not None:
        problem.filename2 = os.fspath(path2)
    return problem
