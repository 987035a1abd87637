"""Commands about whole volumes: mkfs, info, check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this family."""
    app.command()(mkfs)
    app.command()(info)
    app.command()(check)


def parse_size(text: str) -> int:
    """Bytes of a size as people write it: a number and K, M, G, T or P (powers of 1024); raises BadRequest."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([kmgtp])(?:i?b)?)?", text.strip().lower())
    number = round(float(found[1]) * 1024 ** (" kmgtp".index(found[2] or " "))) if found else 0
    if number <= 0:
        from gavel.errors import BadRequest

        raise BadRequest(f"{text!r} is no size; write it like 64G or 500M")
    return number


def mkfs(
    path: Annotated[Path, typer.Argument(help="A file, which is made if need be, or a block device.")],
    size: Annotated[
        str | None, typer.Option(help="What the volume may grow to, 64G by default; a file is sparse.")
    ] = None,
    label: Annotated[str, typer.Option(help="A name for people.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite whatever it holds.")] = False,
    json: JSON = False,
) -> None:
    """Make a volume. Refuses what already holds data, naming it."""
    from gavel.cli import output
    from gavel.client.volumes import format_volume
    from gavel.node.access import connect, locate

    format_volume(path, size=None if size is None else parse_size(size), label=label, force=force)
    session = connect(locate(str(path), prefer_volume=True))
    try:
        made = session.call("info", {})
    finally:
        session.close()
    if json:
        output.print_json(made)
    else:
        output.say(f"{path} is a volume of {output.size(made['size'])}; mount it with: gavel mount {path} DIR")


def info(path: Annotated[Path, typer.Argument(help="A volume or a path in a mount.")], json: JSON = False) -> None:
    """Show sizes (live, history, free), tids and counts."""
    from gavel.cli import output
    from gavel.node.access import connect, locate

    session = connect(locate(str(path), prefer_volume=True))
    try:
        found = session.call("info", {})
    finally:
        session.close()
    if json:
        output.print_json(found)
        return
    mounted = found["mounted"] or "not mounted"
    rows = [
        ("volume", found["volume"]),
        ("label", found["label"]),
        ("identity", found["identity"]),
        ("mounted", mounted + (" (read-only)" if found["mounted"] and found["read_only"] else "")),
        ("size", output.size(found["size"])),
        ("live", f"{output.size(found['live'])} of file data in the present"),
        ("history", f"{output.size(found['history'])} of file data that only the past has"),
        ("used", f"{output.size(found['log'])} by the log with all data, {output.size(found['trees'])} by trees"),
        ("free", output.size(found["free"])),
        ("made", f"{output.moment(found['created_time'])}  {found['created_tid']}"),
        ("last change", f"{output.moment(found['last_time'])}  {found['last_tid']}"),
        ("history from", f"{output.moment(found['horizon_time'])}  {found['horizon_tid']}"),
        ("records", f"{found['records']:,} live, {found['past_records']:,} past"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        output.say(f"{name:<{width}}  {value}")


def check(
    path: Annotated[Path, typer.Argument(help="A volume or a path in its mount.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also read and verify every node and all file data.")] = False,
    json: JSON = False,
) -> None:
    """Check a volume, mounted or not. Exit code 5 when something is wrong with it."""
    from gavel.cli import output
    from gavel.node.access import connect, locate

    session = connect(locate(str(path), prefer_volume=True))
    problems: list[output.Json] = []
    try:
        with output.progress_bar("checking", not json) as advance:
            result = session.call(
                "check",
                {"deep": deep},
                lambda kind, value: problems.append(value) if kind == "item" else advance(value),
            )
    finally:
        session.close()
    if json:
        output.print_json({"problems": problems, **result})
    elif problems:
        output.table(("where", "what is wrong"), [(one["where"], one["problem"]) for one in problems])
        output.say(
            f"{output.count(len(problems), 'problem')}; `gavel history` shows states to go back to with `gavel undo`"
        )
    else:
        how = "every node and extent was read" if deep else "use --deep to read every node and extent"
        output.say(f"all is well ({how})")
    if problems:
        raise typer.Exit(output.DAMAGED)
