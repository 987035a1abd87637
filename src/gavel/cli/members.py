"""Commands about the files and devices under a volume: add, remove, list."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
PATH = Annotated[Path, typer.Argument(help="A volume or a path in its mount.")]

app = typer.Typer(help="Several files or devices under one volume.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def add(
    path: PATH,
    device: Annotated[Path, typer.Argument(metavar="DEVICE", help="A file, which is made if need be, or a device.")],
    size: Annotated[str | None, typer.Option(help="How large a new file may grow; it is sparse.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite whatever it holds.")] = False,
    json: JSON = False,
) -> None:
    """Make a file or device part of the volume. Refuses what already holds data, naming it."""
    from gavel.cli import output
    from gavel.cli.calls import call
    from gavel.cli.volumes import parse_size

    args = {"path": os.path.abspath(device), "size": None if size is None else parse_size(size), "force": force}
    made, _ = call(path, "volume_add", args, writing=True)
    if json:
        output.print_json(made)
    else:
        output.say(f"{made['path']} is member {made['number']} with {output.size(made['size'])}")


@app.command()
def remove(
    path: PATH,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its path, or its number in `gavel volume list`.")],
    json: JSON = False,
) -> None:
    """Move everything off a file or device and let go of it. Ctrl-C stops it, the member stays what it was."""
    from gavel.cli import output
    from gavel.cli.calls import call

    which = device if device.isdecimal() else os.path.abspath(device)
    gone, _ = call(path, "volume_remove", {"which": which}, writing=True, title="moving data")
    if json:
        output.print_json(gone)
    else:
        output.say(f"{gone['path']} is not part of the volume any more; it can be deleted")


@app.command("list")
def list_(path: PATH, json: JSON = False) -> None:
    """Show the files and devices under a volume."""
    from gavel.cli import output
    from gavel.cli.calls import call

    _, found = call(path, "volume_list")
    if json:
        output.print_json({"members": found})
        return
    rows = [
        (
            str(one["number"]),
            one["path"],
            output.size(one["size"]),
            output.size(one["used"]),
            output.size(one["live"]),
            "leaving" if one["leaving"] else "",
        )
        for one in found
    ]
    output.table(("number", "path", "size", "used", "alive", ""), rows, right=(2, 3, 4))
