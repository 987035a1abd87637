"""The upkeep of an open volume as methods: what Fs has of it, and AsyncFs under the same names.

Each long one also exists as NAME_job, a generator of Progress for who drives it himself: the command line, a mount.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import TypeVar

from gavel.client import devices, paths, upkeep
from gavel.client.chosen import Chosen
from gavel.client.devices import VolumeFormat, VolumeMember
from gavel.client.driving import OnProgress, drive, drive_on_loop
from gavel.client.paths import AnyPath
from gavel.client.results import Progress
from gavel.client.states import Present
from gavel.client.upkeep import CleanupRun, Retained
from gavel.filesystem.compression import Choice
from gavel.media.cipher import Key
from gavel.upkeep.cleanup import Course, Task
from gavel.upkeep.dedup import Deduplicated
from gavel.upkeep.prune import Pruned
from gavel.upkeep.reblock import Reblocked
from gavel.upkeep.scrub import Scrubbed

T = TypeVar("T")
Job = Generator[Progress, None, T]

FULL_SHARE = 0.9  # a big-block that is fuller is left alone by reblock


class Upkept(Chosen):
    """What Fs has besides the tree and the past."""

    _present: Present

    # -- how much of the past is kept

    def prune(
        self,
        path: AnyPath = "/",
        *,
        keep: str | None = None,
        everything: bool = False,
        dry_run: bool = False,
        progress: OnProgress | None = None,
    ) -> Pruned:
        """Drop what no policy keeps; `keep` stands in for the directory's own, this once.

        `everything`, for the root only, keeps the present and the named snapshots. `dry_run` says what would go.
        """
        return drive(self.prune_job(path, keep, everything, dry_run), progress)

    def prune_job(self, path: AnyPath, keep: str | None, everything: bool, dry_run: bool) -> Job[Pruned]:
        """prune() as a long operation."""
        return _job_on(path, lambda raw: upkeep.prune(self._present, raw, keep, everything, dry_run))

    # -- space and soundness

    def reblock(self, share: float = FULL_SHARE, *, progress: OnProgress | None = None) -> Reblocked:
        """Empty big-blocks of which at most `share` is alive, so that their space comes back."""
        return drive(self.reblock_job(share), progress)

    def reblock_job(self, share: float = FULL_SHARE) -> Job[Reblocked]:
        """reblock() as a long operation."""
        return upkeep.run_reblock(self._present, share)

    def scrub(self, rate: int | None = None, *, progress: OnProgress | None = None) -> Scrubbed:
        """Read and verify every node and extent, at most `rate` bytes a second; what is damaged."""
        return drive(self.scrub_job(rate), progress)

    def scrub_job(self, rate: int | None = None) -> Job[Scrubbed]:
        """scrub() as a long operation."""
        return upkeep.run_scrub(self._present, rate)

    def dedup(self, *, simulate: bool = False, progress: OnProgress | None = None) -> Deduplicated:
        """Store the same content once; `simulate` only says what that would save."""
        return drive(self.dedup_job(simulate), progress)

    def dedup_job(self, simulate: bool = False) -> Job[Deduplicated]:
        """dedup() as a long operation."""
        return upkeep.run_dedup(self._present, simulate)

    def snapshot_space(self, *, progress: OnProgress | None = None) -> dict[str, int]:
        """Bytes of file data that each snapshot alone holds, by its name."""
        return drive(self.snapshot_space_job(), progress)

    def snapshot_space_job(self) -> Job[dict[str, int]]:
        """snapshot_space() as a long operation."""
        return upkeep.space_of_snapshots(self._present)

    # -- cleanup

    def cleanup(self, names: list[str] | None = None, *, progress: OnProgress | None = None) -> list[CleanupRun]:
        """Run the tasks that are configured, or those named, now and one after the other."""
        return drive(self.cleanup_job(names), progress)

    def cleanup_job(self, names: list[str] | None = None) -> Job[list[CleanupRun]]:
        """cleanup() as a long operation."""
        return upkeep.cleanup(self._present, names)

    def cleanup_show(self) -> dict[str, tuple[Task, Course | None]]:
        """Every task, and how it stands: when it is due, what it came to last."""
        return upkeep.cleanup_show(self._present)

    # -- what lies under the volume

    def volume_list(self) -> list[VolumeMember]:
        """The files and devices of the volume, the first one first."""
        return devices.volume_list(self._present)

    def volume_add(self, path: AnyPath, *, size: int | None = None, force: bool = False) -> VolumeMember:
        """Make a file of `size` bytes, or a block device, part of the volume; refuses what holds data unless forced."""
        return drive(self.volume_add_job(path, size, force), None)

    def volume_add_job(self, path: AnyPath, size: int | None, force: bool) -> Job[VolumeMember]:
        """volume_add() as a long operation."""
        return devices.volume_add(self._present, os.fsdecode(os.fspath(path)), size, force)

    def volume_remove(self, which: str, *, progress: OnProgress | None = None) -> VolumeMember:
        """Move everything off a member, named by its path or number, and let go of it."""
        return drive(self.volume_remove_job(which), progress)

    def volume_remove_job(self, which: str) -> Job[VolumeMember]:
        """volume_remove() as a long operation."""
        return devices.volume_remove(self._present, which)

    def volume_format(self) -> VolumeFormat:
        """The version of the volume's format, and what kind of key opens it."""
        return devices.volume_format(self._present)

    def rekey(self, key: Key) -> str:
        """Let another key open the volume, and the old one no more; returns its kind. Data stays as it is."""
        return drive(self.rekey_job(key), None)

    def rekey_job(self, key: Key) -> Job[str]:
        """rekey() as a long operation."""
        return devices.rekey(self._present, key)

    def upgrade(self) -> int:
        """Make the volume one of the current format, durably; its version then."""
        return drive(self.upgrade_job(), None)

    def upgrade_job(self) -> Job[int]:
        """upgrade() as a long operation."""
        return devices.upgrade(self._present)


class AsyncUpkept:
    """The same for asyncio; what each does and raises is said at Upkept."""

    _kept: Upkept

    async def retention(self, path: AnyPath = "/") -> Retained:
        """See Upkept.retention."""
        return self._kept.retention(path)

    async def set_retention(self, path: AnyPath, policy: str | None) -> Retained:
        """See Upkept.set_retention."""
        return self._kept.set_retention(path, policy)

    async def retention_list(self) -> list[tuple[str, str]]:
        """See Upkept.retention_list."""
        return self._kept.retention_list()

    async def prune(
        self,
        path: AnyPath = "/",
        *,
        keep: str | None = None,
        everything: bool = False,
        dry_run: bool = False,
        progress: OnProgress | None = None,
    ) -> Pruned:
        """See Upkept.prune."""
        return await drive_on_loop(self._kept.prune_job(path, keep, everything, dry_run), progress)

    async def reblock(self, share: float = FULL_SHARE, *, progress: OnProgress | None = None) -> Reblocked:
        """See Upkept.reblock."""
        return await drive_on_loop(self._kept.reblock_job(share), progress)

    async def scrub(self, rate: int | None = None, *, progress: OnProgress | None = None) -> Scrubbed:
        """See Upkept.scrub."""
        return await drive_on_loop(self._kept.scrub_job(rate), progress)

    async def dedup(self, *, simulate: bool = False, progress: OnProgress | None = None) -> Deduplicated:
        """See Upkept.dedup."""
        return await drive_on_loop(self._kept.dedup_job(simulate), progress)

    async def snapshot_space(self, *, progress: OnProgress | None = None) -> dict[str, int]:
        """See Upkept.snapshot_space."""
        return await drive_on_loop(self._kept.snapshot_space_job(), progress)

    async def cleanup(self, names: list[str] | None = None, *, progress: OnProgress | None = None) -> list[CleanupRun]:
        """See Upkept.cleanup."""
        return await drive_on_loop(self._kept.cleanup_job(names), progress)

    async def cleanup_show(self) -> dict[str, tuple[Task, Course | None]]:
        """See Upkept.cleanup_show."""
        return self._kept.cleanup_show()

    async def cleanup_set(self, name: str, every: str | None, budget: str | None = None) -> dict[str, Task]:
        """See Upkept.cleanup_set."""
        return self._kept.cleanup_set(name, every, budget)

    async def cleanup_tasks(self) -> dict[str, Task]:
        """See Upkept.cleanup_tasks."""
        return self._kept.cleanup_tasks()

    async def compression(self, path: AnyPath = "/") -> str:
        """See Upkept.compression."""
        return self._kept.compression(path)

    async def set_compression(self, path: AnyPath, choice: Choice) -> str:
        """See Upkept.set_compression."""
        return self._kept.set_compression(path, choice)

    async def volume_list(self) -> list[VolumeMember]:
        """See Upkept.volume_list."""
        return self._kept.volume_list()

    async def volume_add(self, path: AnyPath, *, size: int | None = None, force: bool = False) -> VolumeMember:
        """See Upkept.volume_add."""
        return await drive_on_loop(self._kept.volume_add_job(path, size, force), None)

    async def volume_remove(self, which: str, *, progress: OnProgress | None = None) -> VolumeMember:
        """See Upkept.volume_remove."""
        return await drive_on_loop(self._kept.volume_remove_job(which), progress)

    async def volume_format(self) -> VolumeFormat:
        """See Upkept.volume_format."""
        return self._kept.volume_format()

    async def rekey(self, key: Key) -> str:
        """See Upkept.rekey."""
        return await drive_on_loop(self._kept.rekey_job(key), None)

    async def upgrade(self) -> int:
        """See Upkept.upgrade."""
        return await drive_on_loop(self._kept.upgrade_job(), None)


def _job_on(given: AnyPath, start: Callable[[bytes], Job[T]]) -> Job[T]:
    """The same for a long operation, which begins when it is first resumed."""
    try:
        return (yield from start(paths.encode(given)))
    except OSError as problem:
        raise paths.named(problem, given) from None
