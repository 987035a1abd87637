"""A master on a host with troubles: `troubled.py DIR` serves it as `gavel serve DIR` does, and its clock can be set,
its disk can fail or be full. It stands between the master and the system, so that the master is the one users run.

What is wrong is in DIR/trouble.json, which is read at the start and at each SIGUSR1; then it is copied to
DIR/troubled.json, so that one knows:

    {"clock_us": 0, "sync": false, "write": false, "read": false, "full": false}

`clock_us` is by how much the host's clock is ahead. `sync`, `write` and `read` of the volume end with EIO; with `full`
the host's filesystem has no room for anything new.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

ASKED, DONE = "trouble.json", "troubled.json"
_NONE = {"clock_us": 0, "sync": False, "write": False, "read": False, "full": False}


class Trouble:
    """The system calls of a host with troubles, in place of the true ones."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._now: dict[str, Any] = dict(_NONE)
        self.look()
        clock, clock_ns = time.time, time.time_ns
        time.time_ns = lambda: clock_ns() + self._now["clock_us"] * 1000
        time.time = lambda: clock() + self._now["clock_us"] / 1e6
        for name, fails, why in (
            ("fdatasync", "sync", errno.EIO),
            ("pwritev", "write", errno.EIO),
            ("pread", "read", errno.EIO),
            ("posix_fallocate", "full", errno.ENOSPC),
        ):
            setattr(os, name, self.failing(getattr(os, name), fails, why))

    def failing(self, true: Any, fails: str, why: int) -> Any:
        """A call that does what the true one does, unless this is wrong now."""

        def call(*args: Any) -> Any:
            if self._now[fails]:
                raise OSError(why, os.strerror(why))
            return true(*args)

        return call

    def look(self, *_: object) -> None:
        """Read what is wrong now."""
        try:
            text = (self._directory / ASKED).read_text()
        except FileNotFoundError:
            return
        self._now = {**_NONE, **json.loads(text)}
        fresh = self._directory / f"{DONE}.new"
        fresh.write_text(text)
        fresh.replace(self._directory / DONE)


def main() -> None:
    """Serve."""
    trouble = Trouble(Path(sys.argv[1]))
    signal.signal(signal.SIGUSR1, trouble.look)
    from gavel.cli.main import main as gavel  # only now: it takes the clock along
    from gavel.runtime.kernel_sync import KernelSync

    KernelSync.sync = trouble.failing(KernelSync.sync, "sync", errno.EIO)  # then fdatasync is tried, and fails, too
    sys.argv[1:] = ["serve", sys.argv[1]]
    gavel()


if __name__ == "__main__":
    main()
