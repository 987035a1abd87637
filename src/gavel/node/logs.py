"""What a daemon writes to its log: lines for people, or one JSON object a line for programs.

    {"time": "2026-11-22T19:04:05.123Z", "level": "warning", "node": 2, "event": "member lost", "message": "...", ...}

Important things have an `event` and fields of their own (docs/guide/cluster.md lists them); others are events named by
the part of the program that says them. What says the same over and over, as garbage from a peer does, is cut short.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

STYLES: Final = ("text", "json")

_EVENTS: Final = logging.getLogger("gavel.event")
_OFTEN: Final = 20  # lines of one kind within a period
_PERIOD_SECONDS: Final = 60
_KINDS: Final = 1000  # that are remembered


def event(name: str, text: str, /, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log something important, once when it happens."""
    _EVENTS.log(level, "%s", text, extra={"event": name, "fields": fields})


def configure(style: str, node: int) -> None:
    """Have this process log to stderr from now on, as node `node` in this style."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Json(node) if style == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    handler.addFilter(Few())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Json(logging.Formatter):
    """See the module."""

    def __init__(self, node: int) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            **getattr(record, "fields", {}),
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "node": self._node,
            "event": getattr(record, "event", record.name.removeprefix("gavel.")),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Few(logging.Filter):
    """Lets so many lines of a kind pass in a period, and says with the next one how many it has left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str], list[float]] = {}  # since when, how many passed, how many were left out

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        kind = record.name, str(getattr(record, "event", record.msg))
        now = self._clock()
        held = self._kinds.get(kind)
        if held is None:
            if len(self._kinds) >= _KINDS:
                self._kinds.clear()
            held = self._kinds[kind] = [now, 0, 0]
        since, passed, left_out = held
        if now >= since + _PERIOD_SECONDS:
            held[:] = [now, 0, 0]
            if left_out:
                record.msg = f"{record.msg} (and {int(left_out)} more like it in the last {int(now - since)} s)"
        elif passed >= _OFTEN:
            held[2] += 1
            return False
        held[1] += 1
        return True
