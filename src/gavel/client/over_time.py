"""The calls that look back over the whole of a filesystem's time, of an open volume and of a cluster alike."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from gavel.client import looking_back, paths
from gavel.client.driving import OnProgress, drive
from gavel.client.looking_back import Timeline, When
from gavel.client.paths import AnyPath
from gavel.client.results import Progress
from gavel.filesystem.diff import Difference
from gavel.filesystem.file_history import FileVersion
from gavel.filesystem.log import Logged
from gavel.filesystem.snapshots import Snapshot


class OverTime:
    """What Fs and Cluster have in common beside Tree. They say by `_timeline` what it is about."""

    @property
    def _timeline(self) -> Timeline:
        raise AssertionError("whoever inherits this has a timeline")

    def history(self, path: AnyPath) -> list[FileVersion]:
        """Every version of what a path names or ever named, oldest first; also of a deleted file."""
        try:
            return looking_back.history(self._timeline, paths.encode(path))
        except OSError as problem:
            raise paths.named(problem, path) from None

    def log(
        self, path: AnyPath = "/", *, since: When | None = None, until: When | None = None, limit: int | None = None
    ) -> Iterator[Logged]:
        """The transactions that touched a tree in (since, until], newest first, with what they did to which paths."""
        return (step for step in self.log_job(path, since, until, limit) if not isinstance(step, Progress))

    def log_job(
        self, path: AnyPath, since: When | None, until: When | None, limit: int | None
    ) -> Generator[Progress | Logged, None, bool]:
        """log() as a long operation, to be driven in slices; whether there is more than `limit`."""
        return looking_back.named_errors(
            looking_back.log(self._timeline, paths.encode(path), since, until, limit), path
        )

    def diff(self, path: AnyPath, old: When, new: When | None = None) -> Iterator[Difference]:
        """What is different in a tree between two times; without `new`, between then and now."""
        return (step for step in self.diff_job(path, old, new) if not isinstance(step, Progress))

    def diff_job(
        self, path: AnyPath, old: When, new: When | None
    ) -> Generator[Progress | Difference, None, tuple[int, int]]:
        """diff() as a long operation, to be driven in slices; the two tids."""
        return looking_back.named_errors(looking_back.diff(self._timeline, paths.encode(path), old, new), path)

    def undo(
        self, path: AnyPath, to: When | None = None, *, dry_run: bool = False, progress: OnProgress | None = None
    ) -> looking_back.Undone:
        """Bring a file or tree back to what it was: at `to`, else before its last change; also a deleted one.

        It is itself a change like any other and can be undone. `dry_run` only says what would be done.
        """
        return drive(self.undo_job(path, to, dry_run), progress)

    def undo_job(self, path: AnyPath, to: When | None, dry_run: bool) -> Generator[Progress, None, looking_back.Undone]:
        """undo() as a long operation, to be driven in slices."""
        return looking_back.named_errors(looking_back.undo(self._timeline, paths.encode(path), to, dry_run), path)

    def snapshot_create(self, name: str, when: When | None = None, note: str = "") -> Snapshot:
        """Name a state: that of `when`, else the present one; raises BadRequest for a name that is taken."""
        return looking_back.snapshot_create(self._timeline, name, when, note)

    def snapshot_list(self) -> list[Snapshot]:
        """All snapshots, oldest state first."""
        return looking_back.snapshot_list(self._timeline)

    def snapshot_delete(self, name: str) -> Snapshot:
        """Forget a name and return what it named, which stays as readable as before. Raises BadRequest."""
        return looking_back.snapshot_delete(self._timeline, name)
