"""What systemd is told (sd_notify(3)): ready, reloading, stopping, still alive, and a line of status."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import Final

_LINE_MAX: Final = 200


def notify(*words: str) -> bool:
    """Tell whoever started this process, if it asked for that; whether it did."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return False
    address = "\0" + where[1:] if where.startswith("@") else where
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto("\n".join(words).encode(), address)
        except OSError:
            return False
    return True


def ready() -> None:
    """Started, or done with reloading."""
    notify("READY=1")


def reloading() -> None:
    """Reading the configuration again."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """About to end in order."""
    notify("STOPPING=1")


def status(text: str) -> None:
    """One line for `systemctl status`."""
    notify(f"STATUS={text[:_LINE_MAX]}")


def alive() -> None:
    """Still working: to be said at least every watchdog_seconds()."""
    notify("WATCHDOG=1")


def watchdog_seconds() -> float:
    """How often alive() must be said, with room to spare; 0 if nobody waits for it."""
    pid, limit = os.environ.get("WATCHDOG_PID"), os.environ.get("WATCHDOG_USEC", "")
    if not limit.isdigit() or (pid is not None and pid != str(os.getpid())):
        return 0
    return int(limit) / 1e6 / 3


def unit(command: Sequence[str], directory: str, user: str) -> str:
    """A systemd unit that serves a directory by a command. Older systemd than 253 knows no Type=notify-reload."""
    words = " ".join(map(_quoted, command))
    return f"""\
[Unit]
Description=GavelFS node in {directory}
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
User={user}
ExecStart={words}
ExecReload=/bin/kill -HUP $MAINPID
TimeoutStartSec=600
WatchdogSec=30
Restart=always
RestartSec=1
TimeoutStopSec=60
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def _quoted(word: str) -> str:
    """A word of a command as systemd.service(5) wants it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or any(char.isspace() for char in word) else word
