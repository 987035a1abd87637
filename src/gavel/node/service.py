"""What the command line can ask of an open volume, whether it is mounted or opened in the same process.

Each call is a generator: it yields Progress between slices of long work, Item for each thing it lists, Durable when
it needs everything to be durable (and is sent the tid), and returns its result. Everything in results and items is
JSON; tids are strings as people write them, times are ISO 8601 with offset, sizes are bytes. The keys are documented
in docs/guide/commands.md.
"""

from __future__ import annotations

import os

from gavel.client.fs import Fs
from gavel.node.care import Care
from gavel.node.looking import Looking
from gavel.node.steps import Durable, Job, moment


class Service(Looking):
    """The calls over one open volume."""

    def __init__(self, fs: Fs, volume: str, directory: str | None = None) -> None:
        super().__init__(fs)
        self.fs, self._volume, self._directory = fs, volume, directory
        self._calls |= {"info": self._info, "tid": self._tid, **Care(fs, volume).calls}

    async def sync(self) -> int:
        """Make everything durable, on the event loop; the tid that names it."""
        return await self.fs.sync_on_loop()

    def _info(self) -> Job:
        found = yield from self.fs.info_job()
        lies = self.fs.volume_format()
        return {
            "volume": self._volume,
            "mounted": self._directory,
            "pid": None if self._directory is None else os.getpid(),
            "label": found.label,
            "identity": found.identity,
            "version": lies.version,
            "encryption": lies.encryption or None,
            "members": len(self.fs.volume_list()),
            "read_only": found.read_only and self._directory is not None,
            "size": found.size,
            "live": found.live,
            "history": found.history,
            "log": found.log,
            "trees": found.trees,
            "free": found.free,
            "reserve": found.reserve,
            **moment("created", found.created_tid),
            **moment("last", found.last_tid),
            **moment("horizon", found.horizon),
            "records": found.records,
            "past_records": found.past_records,
        }

    def _tid(self) -> Job:
        tid = yield Durable()
        assert tid is not None
        return moment("", tid)
