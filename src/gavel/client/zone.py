"""The local time zone as a tzinfo that knows its past and its daylight saving."""

from __future__ import annotations

import os
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def local_zone() -> tzinfo:
    """What TZ names, else the zone of this machine, else the present offset from UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    else:
        try:
            with open("/etc/localtime", "rb") as file:
                return ZoneInfo.from_file(file)
        except (OSError, ValueError):
            pass
    return datetime.now().astimezone().tzinfo or UTC
