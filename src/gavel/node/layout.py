"""Names in the directory of a node, and how one is told from other directories; directory.py says what they are."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

CONFIGURATION: Final = "node.toml"
VOLUME: Final = "volume.gavel"
SOCKET: Final = "admin.sock"


def looks_like_node(path: str | os.PathLike[str]) -> bool:
    """Whether there is the directory of a node."""
    return (Path(path) / CONFIGURATION).is_file()


def served(directory: Path) -> bool:
    """Whether a daemon of this user listens in a node's directory."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.fspath(directory / SOCKET))
        except OSError:
            return False
    return True
