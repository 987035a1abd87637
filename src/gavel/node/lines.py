"""The lines in which two versions of a text file differ, for people."""

from __future__ import annotations

from difflib import unified_diff

from gavel.client.cluster import Cluster
from gavel.client.fs import Fs
from gavel.errors import GavelError
from gavel.filesystem.diff import Difference

_TEXT_MAX = 1024 * 1024  # bytes of a version above which only sizes are told
_LINES_MAX = 400  # told of one file
_CONTENT = frozenset({"written", "truncated", "extended", "punched"})


def text_diff(fs: Fs | Cluster, tree: str, one: Difference, t0: int, t1: int) -> list[str]:
    """Unified diff of a changed file without its header; empty for what is no text, too large or not readable."""
    if one.before is None or one.after is None or not _CONTENT.intersection(one.what):
        return []
    if max(one.before.size, one.after.size) > _TEXT_MAX:
        return []
    old = _text(fs, t0, _absolute(tree, one.old_path or one.path))
    new = _text(fs, t1, _absolute(tree, one.path))
    if old is None or new is None:
        return []
    lines = list(unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2))[2:]
    if len(lines) > _LINES_MAX:
        lines = [*lines[:_LINES_MAX], f"... {len(lines) - _LINES_MAX} more lines"]
    return lines


def _absolute(tree: str, path: str) -> str:
    if path == ".":
        return tree
    return path if path.startswith("/") else f"{tree.rstrip('/')}/{path}"


def _text(fs: Fs | Cluster, tid: int, path: str) -> str | None:
    try:
        content = fs.as_of(tid).read_bytes(path)
        return None if b"\0" in content else content.decode()
    except (OSError, GavelError, UnicodeDecodeError):
        return None
