"""Commands about mounts: mount, umount."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this family."""
    app.command()(mount)
    app.command()(umount)


def mount(
    volume: Annotated[
        str,
        typer.Argument(help="The volume, a file or a block device; or a cluster, gavel://HOST:PORT[,HOST:PORT...]."),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to mount it.")],
    read_only: Annotated[bool, typer.Option("--read-only", help="Take no writes.")] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="WHEN", help="Mount the state of that time, read-only.")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, log to stderr, unmount on Ctrl-C.")] = False,
    allow_other: Annotated[
        bool, typer.Option("--allow-other", help="Let other users in, too (always so as root).")
    ] = False,
    key_file: Annotated[Path | None, typer.Option(help="The key file of an encrypted volume.")] = None,
    json: JSON = False,
) -> None:
    """Mount a volume, or a cluster; returns when the mount answers."""
    from gavel.cli import output
    from gavel.node.keys import key_of
    from gavel.node.launch import Options, check_free, mount_here, mount_in_background

    check_free(os.path.realpath(directory))
    cluster = "://" in volume
    options = Options(
        volume=volume if cluster else os.path.abspath(volume),
        directory=os.path.realpath(directory),
        read_only=read_only,
        as_of=as_of,
        allow_other=allow_other,
        key=None if cluster else key_of(volume, None if key_file is None else str(key_file)),
    )
    if foreground:
        mount_here(options)
        return
    ready = mount_in_background(options)
    if json:
        output.print_json(ready)


def umount(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where it is mounted.")], json: JSON = False
) -> None:
    """Unmount; everything is durable when it returns. Works on busy and dead mounts as well."""
    from gavel.cli import output
    from gavel.node.umount import unmount

    result = unmount(str(directory))
    if json:
        output.print_json(result)
    elif result["note"]:
        output.say(result["note"])
    if not result["clean"]:
        raise typer.Exit(output.FAILED)
