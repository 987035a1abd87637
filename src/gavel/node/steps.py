"""What the calls of service.py and care.py yield, and the form in which they say when something was."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from gavel.client.results import Progress
from gavel.filesystem import when
from gavel.keys import tid as tids
from gavel.node.protocol import Json
from gavel.runtime.moments import local_zone


class Item(NamedTuple):
    """One thing of a list."""

    value: Json


class Durable(NamedTuple):
    """Asks the driver to sync; it sends back the tid."""


Job = Generator[Progress | Item | Durable, int | None, Json]


def moment(name: str, tid: int) -> Json:
    """A tid and the time that is in it, as two keys."""
    prefix = f"{name}_" if name else ""
    return {f"{prefix}tid": tids.text(tid), f"{prefix}time": when.show(tid, local_zone())}
