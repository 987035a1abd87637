"""On whose behalf an operation is done."""

from __future__ import annotations

from typing import NamedTuple


class Caller(NamedTuple):
    """Owner of what is created. Permissions are not checked here: the kernel does that before it asks."""

    uid: int
    gid: int
    umask: int = 0  # applies where no default ACL does
    groups: tuple[int, ...] = ()
