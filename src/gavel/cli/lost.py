"""The command that shows what this client could not commit, and brings the bytes back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(lost)


def lost(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the client's identity.")],
    to: Annotated[Path | None, typer.Option("--to", metavar="TARGET", help="Copy the files there, by path.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what a mount of this client had written, and could not commit before others changed the same.

    Each time is a directory in DIR/lost: changes.json says what was changed, files/ has the bytes that were written;
    what was not is a hole. Look before you copy: what others have written since is in the filesystem, not here. Nothing
    deletes these but you.
    """
    from gavel.cli import output
    from gavel.node.connecting import lost_work
    from gavel.node.directory import Directory
    from gavel.runtime.lost_work import found, restore

    saved = found(lost_work(Directory(directory)))
    if to is not None:
        copied = [str(path) for place, told in saved for path in restore(place, told, to)]
        output.print_json({"copied": copied}) if json else print(f"{len(copied)} files copied to {to}")
        return
    if json:
        output.print_json({"lost": [{"directory": str(place), **told} for place, told in saved]})
        return
    output.table(
        ("when", "path", "what", "bytes", "saved as"), [row for one in saved for row in _rows(*one)], right=(3,)
    )


def _rows(place: Path, told: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    from gavel.cli import output

    when = output.moment(told["when"])
    rows = []
    for one in told["changes"]:
        size = sum(length for _, length in one["data"])
        path = one["path"] or f"object {one['object']}"
        where = str(place / "files" / one["file"]) if one["file"] else ""
        rows.append((when, path, ", ".join(one["what"]), output.size(size) if size else "", where))
    return rows or [(when, "", told["why"], "", str(place))]
