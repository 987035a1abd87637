"""What lies under an open volume: its files and devices, the key that opens it, its format version.

As everywhere in this room long work is a generator that yields Progress; dropping one stops it cleanly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import NamedTuple, TypeVar

from gavel.client.results import Progress
from gavel.client.states import Present
from gavel.client.upkeep import LOOK_SECONDS, run_reblock
from gavel.errors import BadRequest, DeviceFailed, GavelError
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.cipher import Key
from gavel.media.members import LEAVING, Member, Use
from gavel.runtime.engine import Engine, Waiter
from gavel.runtime.open_volume import add_member, remove_member

T = TypeVar("T")

_ROUNDS = 4  # what was the log's end or the map's place when a removal began is free some checkpoints later


class VolumeMember(NamedTuple):
    """A file or device of the volume; sizes in bytes. `path` is empty for the first one."""

    number: int
    path: str
    identity: str
    size: int
    used: int  # in big-blocks that are not free
    live: int  # referred to, by the present or the past
    leaving: bool


class VolumeFormat(NamedTuple):
    """The version of the volume's format, and what opens it: "passphrase", "key file", or "" for one in clear."""

    version: int
    encryption: str


def volume_format(present: Present) -> VolumeFormat:
    """What the newest durable header says."""
    with present.engine.turn:
        return VolumeFormat(present.engine.volume.version, present.engine.volume.locked_by)


def volume_list(present: Present) -> list[VolumeMember]:
    """The files and devices of the volume, the first one first."""
    with present.engine.turn:
        return [_shown(use) for use in present.engine.volume.members()]


def volume_add(
    present: Present, path: str, size: int | None = None, force: bool = False
) -> Generator[Progress, None, VolumeMember]:
    """Make a file (of `size` bytes, sparse) or device part of the volume; what it held is lost.

    Raises BadRequest for what already holds data unless `force`d, VolumeBusy, and OSError as open(2) does.
    """
    engine = present.engine
    member = yield from _answered(
        engine, "adding", lambda heard: add_member(engine, path, heard, size=size, force=force)
    )
    return _found(engine, str(member.number))


def volume_remove(present: Present, which: str) -> Generator[Progress, None, VolumeMember]:
    """Move everything off a member, named by path or number, and let go of it; how it was before.

    Stopped before its end the member stays what it was. Raises VolumeFull when the others have no room, BadRequest.
    """
    engine = present.engine
    with engine.turn:
        before = _found(engine, which)
        if before.number == 0:
            raise BadRequest("the first file or device names the volume and stays; remove another one")
        blocks = _member(engine, before.number).blocks
        engine.volume.exclude(blocks)
    try:
        for _ in range(_ROUNDS):
            yield from run_reblock(present, 0.0)
            if _found(engine, which).used <= BIG_BLOCK:  # that of its name
                break
            _settle(engine)
            yield from _answered(engine, "checkpoint", engine.request_checkpoint)
        yield from _answered(engine, "letting go", lambda heard: remove_member(engine, before.number, heard))
    except BaseException:
        with engine.turn, suppress(DeviceFailed):  # one that has failed takes nothing more, and tells so already
            if any(use.member.number == before.number for use in engine.volume.members()):
                engine.volume.include(blocks)
        raise
    return before


def rekey(present: Present, key: Key) -> Generator[Progress, None, str]:
    """Let another key open the volume, and the old one no more; what kind of key opens it now.

    Data stays as it is: only the wrapping of the data key is changed. Raises BadRequest for a volume in clear.
    """
    engine = present.engine
    lock = yield from _beside(engine, "changing the key", lambda: engine.new_lock(key))
    yield from _answered(engine, "changing the key", lambda heard: engine.request_rekey(lock, heard))
    return engine.volume.locked_by


def upgrade(present: Present) -> Generator[Progress, None, int]:
    """Have a volume of an older format say durably that it is of the current one; its version then."""
    engine = present.engine
    if engine.volume.version < layout.VERSION:
        yield from _answered(engine, "upgrading", engine.request_checkpoint)
    return engine.volume.version


def _settle(engine: Engine) -> None:
    """Have the volume know that no file data waits for a record any more, also where nothing is written."""
    with engine.turn:
        engine.flush()
        if not engine.cache.open_transactions:
            engine.volume.settle(engine.volume.written)


def _answered(engine: Engine, what: str, ask: Callable[[Waiter], T]) -> Generator[Progress, None, T]:
    """Ask for something that waits for the disk, and wait until it is there; raises what went wrong."""
    answers: list[int | GavelError] = []
    heard = threading.Event()

    def hear(result: int | GavelError) -> None:
        answers.append(result)
        heard.set()

    with engine.turn:
        value = ask(hear)
    while not answers:
        if engine.threaded:
            heard.wait(LOOK_SECONDS)
        yield Progress(0, None, what, pause=LOOK_SECONDS)
    (answer,) = answers
    if isinstance(answer, GavelError):
        raise answer
    return value


def _beside(engine: Engine, what: str, work: Callable[[], T]) -> Generator[Progress, None, T]:
    """The result of work that takes long and needs no turn, done in a thread; raises what it raises."""
    with ThreadPoolExecutor(1, "gavel-work") as threads:
        future = threads.submit(work)
        while not future.done():
            if engine.threaded:
                wait([future], LOOK_SECONDS)
            yield Progress(0, None, what, pause=LOOK_SECONDS)
        return future.result()


def _member(engine: Engine, number: int) -> Member:
    (found,) = (use.member for use in engine.volume.members() if use.member.number == number)
    return found


def _found(engine: Engine, which: str) -> VolumeMember:
    """The member with that number or path; raises BadRequest where there is none, or several."""
    with engine.turn:
        members = [_shown(use) for use in engine.volume.members()]
    found = [one for one in members if which in (str(one.number), one.path)]
    if len(found) != 1:
        raise BadRequest(f"{which} is no further device of this volume, and the first stays; see `gavel volume list`")
    return found[0]


def _shown(use: Use) -> VolumeMember:
    member = use.member
    return VolumeMember(
        member.number, member.path, member.identity.hex(), use.size, use.used, use.live, member.state == LEAVING
    )
