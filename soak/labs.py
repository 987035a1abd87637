"""A lab whose masters run on hosts with troubles (troubled.py), and what one wants to know of it while they do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from gavel.errors import GavelError
from gavel.mount import mounted
from gavel.node.calls import call
from gavel.node.directory import Directory
from gavel.node.lab import Lab
from gavel.node.launch import Options, mount_in_background
from gavel.node.serving import SOCKET
from gavel.node.umount import unmount
from soak.troubled import ASKED, DONE

PROGRAM = Path(__file__).with_name("troubled.py")
WAIT = 200.0  # seconds that something may take on a machine with much else to do

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str = "it") -> T:
    """What `look` gives when it gives something true, soon; raises TimeoutError."""
    deadline = time.monotonic() + WAIT
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} never came to be")
        time.sleep(0.05)
    return found


class TroubledLab(Lab):
    """See the module."""

    def command(self, directory: Path) -> list[str]:
        """See Lab."""
        return [sys.executable, "-P", str(PROGRAM), str(directory)]

    def directory(self, number: int) -> Path:
        """Where a node is."""
        return Path(self.nodes[number]["directory"])

    def mount_another(self) -> Path:
        """Mount it a second time, at DIR/mnt2."""
        where = self.path / "mnt2"
        where.mkdir(exist_ok=True)
        mount_in_background(Options(self.url, str(where)))
        return where

    def down(self) -> None:
        """See Lab."""
        if mounted.at(str(self.path / "mnt2")) is not None:
            unmount(str(self.path / "mnt2"))
        super().down()

    def trouble(self, number: int, **what: Any) -> None:
        """Have this, and nothing else, be wrong with a node's host; returns when it is. See troubled.py."""
        text = json.dumps({**what, "since": time.monotonic()})
        where = self.directory(number)
        (where / ASKED).write_text(text)
        if self.running(number):
            os.kill(int(self.nodes[number]["pid"]), signal.SIGUSR1)
            done = where / DONE
            eventually(lambda: done.exists() and done.read_text() == text, f"trouble of node {number}")

    def end(self, number: int) -> None:
        """Have a node end in order."""
        self._signal(number, signal.SIGTERM)
        self._wait_end(number)

    def log(self, number: int) -> str:
        """What a node has logged."""
        return (self.path / f"n{number}.log").read_text(errors="replace")

    def seen_by(self, number: int) -> dict[str, dict[str, Any]]:
        """The members by name as a node sees them; nothing if it does not answer."""
        try:
            told = call(self.directory(number) / SOCKET, "status", {}, 5)
        except (GavelError, OSError):
            return {}
        return {one["name"]: one for one in told["members"]}

    def whole(self) -> dict[str, dict[str, Any]]:
        """The members once each node of the lab is up, votes, has no trouble, and no other member is left."""
        names = {f"n{number}" for number in self.nodes}
        roles = {f"n{number}": self.role(number) for number in self.nodes}

        def look() -> dict[str, dict[str, Any]]:
            for number in self.nodes:
                found = self.seen_by(number)
                if found.keys() != names or not all(
                    one["up"] and not one["problem"] and one["role"] == roles[name] for name, one in found.items()
                ):
                    return {}
            return found

        return eventually(look, f"a whole cluster of {names}")

    def role(self, number: int) -> str:
        """What a node was made as."""
        return Directory(self.directory(number)).settings.role.name.lower()

    def all_know(self, tid: int) -> None:
        """Return when every node has everything up to a tid."""
        eventually(
            lambda: all(int(one["sync_tid"], 16) >= tid for one in self.whole().values()), f"{tid:#x} everywhere"
        )


@contextlib.contextmanager
def running(path: Path, masters: int = 3) -> Iterator[TroubledLab]:
    """A lab with its mount; down at the end, whatever happens. Its identity is that of this process's clients."""
    before = os.environ.get("GAVEL_IDENTITY")
    try:
        lab = TroubledLab.make(path, masters)
        os.environ["GAVEL_IDENTITY"] = str(lab.identity)
        yield lab  # type: ignore[misc]
    finally:
        if (path / "lab.json").exists():
            TroubledLab(path).down()
        if before is None:
            os.environ.pop("GAVEL_IDENTITY", None)
        else:
            os.environ["GAVEL_IDENTITY"] = before
