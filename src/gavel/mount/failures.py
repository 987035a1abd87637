"""From exceptions to errnos: the one table, and what becomes of the unexpected."""

from __future__ import annotations

import errno
import logging
import struct

from gavel.errors import (
    BadRequest,
    BadWhen,
    Collision,
    Damaged,
    DeviceFailed,
    DeviceFull,
    HistoryPruned,
    QuorumLost,
    ReadOnly,
    TooLarge,
    VolumeFull,
)

log = logging.getLogger("gavel.mount")

_ERRNOS: dict[type[Exception], int] = {
    VolumeFull: errno.ENOSPC,
    DeviceFull: errno.ENOSPC,
    DeviceFailed: errno.EIO,
    Damaged: errno.EIO,
    ReadOnly: errno.EROFS,
    HistoryPruned: errno.ESTALE,
    BadWhen: errno.ENOENT,  # so that tools take it for a name that is not there
    BadRequest: errno.EINVAL,
    TooLarge: errno.EFBIG,
    QuorumLost: errno.ETIMEDOUT,
    Collision: errno.EAGAIN,  # after limits.ATTEMPTS_MAX of them in a row
    struct.error: errno.EINVAL,  # a request shorter than its kind must be
}
_TOLD: set[tuple[type[BaseException], int]] = set()
_REMEMBERED = 256  # places whose failures are not logged again


def errno_of(error: Exception) -> int:
    """The errno that answers a request that raised. What nobody foresaw is EIO, logged once for each place."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    for kind in type(error).__mro__:
        known = _ERRNOS.get(kind)
        if known is not None:
            if known == errno.EIO:
                _tell(error, with_trace=False)
            return known
    _tell(error, with_trace=True)
    return errno.EIO


def _tell(error: Exception, *, with_trace: bool) -> None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (type(error), trace.tb_lineno if trace is not None else 0)
    if place in _TOLD and with_trace:
        return
    if len(_TOLD) < _REMEMBERED:
        _TOLD.add(place)
    log.error("a request failed: %s", error or type(error).__name__, exc_info=error if with_trace else None)
