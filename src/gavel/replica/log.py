"""What a master writes into its volume's log, and what it does when it reads that again.

    COMMIT, PART   decided transactions, in the form of this volume (journal.py)
    QUORUM         a record of the quorum's ledger, opaque here
    STAGED         file data that is here ahead of its transaction (staging.py)

One log keeps them in order, and one sync makes all of it durable; so a promise is never durable without the file data
that it promises, nor a later transaction without an earlier one.
"""

from __future__ import annotations

from gavel.errors import DeviceFailed, GavelError
from gavel.history.history import History
from gavel.media.volume import Volume
from gavel.replica import journal
from gavel.replica.journal import QUORUM


class Log:
    """The log of a master: the quorum's Ledger, and where its machine commits.

    After a failure of the device nothing is taken any more; `failure` says why.
    """

    def __init__(self, volume: Volume, history: History) -> None:
        self.failure: GavelError | None = None
        self.commits = 0  # transactions applied since this opening
        self._volume = volume
        self._history = history

    def write(self, record: bytes) -> None:
        """See gavel.quorum.machine.Ledger; finds room as long as checkpoints do. Raises as Volume.append."""
        self._volume.append(QUORUM, record, reserve=True)

    def commit(self, tid: int, keys: list[bytes], values: list[bytes | None]) -> None:
        """Log and apply a decided transaction; all or nothing.

        Raises TooLarge, VolumeFull, DeviceFull, DeviceFailed, Damaged with nothing changed, unless `failure` is set.
        """
        frames = journal.encode(tid, keys, values)
        self._history.prepare(tid, keys)
        for kind, body in frames:
            self._volume.append(kind, body)
        try:
            self._history.apply(tid, keys, values)
        except GavelError as error:  # the log has what the trees could not take; replay will tell
            self.failure = error
            raise
        self._volume.note_records(len(keys))
        self.commits += 1

    def hand_over(self) -> None:
        """Give pending log bytes to the device; a failed device ends all writing, a full one may recover."""
        try:
            self._volume.flush()
        except DeviceFailed as error:
            self.failure = error
            raise
