"""The command that brings files back from a volume that can no longer be opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from gavel.cli.raw import Raw
    from gavel.cli.recovered import Report
    from gavel.upkeep.recover import Salvage

    Advance = Callable[[dict[str, Any]], None]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(recover)


def recover(
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help="The volume's first file or device.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put the files: new, or empty.")],
    history: Annotated[bool, typer.Option("--history", help="Write every past state of each file, too.")] = False,
    key_file: Annotated[Path | None, typer.Option(help="The key file of an encrypted volume.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Bring back files from a volume whose headers, map or roots are gone; the volume itself is only read.

    Needs no sound structure: whatever verifies by its own checksum is put together again. Files go to DIR/files, those
    without a name to DIR/nameless, past states to DIR/history. Exit code 5 when a file is partial or lost.
    """
    from gavel.cli import output
    from gavel.cli.raw import opened
    from gavel.cli.recovered import Host
    from gavel.errors import BadRequest

    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadRequest(f"{directory} is not an empty directory; name a new one")
    with opened(str(volume), key_file) as raw, output.progress_bar("recovering", not json) as advance:
        salvage = _salvaged(raw, advance)
        host = Host(directory, salvage)
        for done in host.write(history):
            advance({"done": done, "total": None})
    worst = [one for one in host.reports if one.state != "whole"]
    told = {state: sum(one.state == state for one in host.reports) for state in ("whole", "partial", "lost")}
    if json:
        output.print_json(
            {
                "certain": salvage.certain,
                "files": [one._asdict() for one in host.reports],
                **told,
                "states": host.states,
                "refused": host.refused,
            }
        )
    else:
        _tell(worst, told, host.states, directory)
        if not salvage.certain:
            output.say("the root of the newest tree is lost, so any file may be of an earlier time")
        if host.refused:
            output.say(f"{output.count(host.refused, 'extended attribute')} could not be set here")
    if worst:
        raise typer.Exit(output.DAMAGED)


def _tell(worst: list[Report], told: dict[str, int], states: int, directory: Path) -> None:
    from gavel.cli import output

    if worst:
        rows = [(one.path, one.state, f"{one.missing:,} of {one.size:,}", one.why) for one in worst]
        output.table(("file", "is", "bytes missing", "because"), rows, right=(2,))
    counts = ", ".join(f"{number:,} {state}" for state, number in told.items())
    output.say(f"{counts} of {output.count(sum(told.values()), 'file')} found; they are in {directory}")
    if states:
        output.say(f"{output.count(states, 'past state')} in {directory / 'history'}")


def _salvaged(raw: Raw, advance: Advance) -> Salvage:
    """All that can be found, put in order. Raises NotAVolume, BadRequest for one that nothing can open any more."""
    from gavel.errors import BadRequest, NotAVolume
    from gavel.replica import journal
    from gavel.upkeep.layers import Layers
    from gavel.upkeep.recover import Salvage
    from gavel.upkeep.remains import Remains, find_salt

    salt = raw.header.salt if raw.header is not None else find_salt(raw.device)
    if salt is None:
        raise NotAVolume(str(raw.device), "nothing that was ever part of one")
    remains = Remains(raw.device, salt, raw.cipher)
    for step in remains.scan():
        advance({"done": step.done, "total": step.total})
    salvage = Salvage(remains, Layers(remains, _roots(raw, remains.newest)), journal.decode)
    for step in salvage.gather():
        advance({"done": step.done, "total": step.total})
    if not salvage.inodes and remains.sealed and raw.header is None:
        raise BadRequest(
            "what is there seems to be encrypted, and no copy of the header is left; its lock was the only way to the "
            "data key, so restore a copy of the first 4 KiB of the volume, or a backup"
        )
    return salvage


def _roots(raw: Raw, newest: int) -> tuple[int, int]:
    """Where the trees begin, if the header is the newest that ever was and tells."""
    from gavel.errors import GavelError
    from gavel.history import roots
    from gavel.media.layout import HEADER_MAGIC

    header = raw.header
    if header is None or header.generation < newest:
        return 0, 0
    try:
        text = header.roots
        if raw.cipher is not None and text:
            text = raw.cipher.open("roots", HEADER_MAGIC, 0, header.generation, text)
        found = roots.decode(text)
    except GavelError:
        return 0, 0
    return found.current.address, found.past.address
