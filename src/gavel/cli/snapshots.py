"""Commands about snapshots: create, list, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
PATH = Annotated[Path, typer.Argument(help="A volume or a path in its mount.")]

app = typer.Typer(help="Name states of a volume.", no_args_is_help=True, rich_markup_mode=None)


def _call(path: Path, name: str, args: dict[str, Any], writing: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from gavel.node.access import connect, locate

    items: list[dict[str, Any]] = []
    session = connect(locate(str(path), prefer_volume=True), writing=writing)
    try:
        return session.call(name, args, lambda kind, value: items.append(value) if kind == "item" else None), items
    finally:
        session.close()


@app.command()
def create(
    path: PATH,
    name: Annotated[str, typer.Argument(help="What to call it; then NAME@@ paths and WHENs know it.")],
    when: Annotated[
        str | None, typer.Option("--when", help="Name the state of that time instead of the present.")
    ] = None,
    note: Annotated[str, typer.Option(help="A remark for people.")] = "",
    json: JSON = False,
) -> None:
    """Name a state; it costs one record whatever the size."""
    from gavel.cli import output

    made, _ = _call(path, "snapshot_create", {"name": name, "when": when, "note": note}, True)
    if json:
        output.print_json(made)
    else:
        output.say(f"{made['name']} names {made['tid']}, the state of {output.moment(made['time'])}")


@app.command("list")
def list_(path: PATH, json: JSON = False) -> None:
    """Show all snapshots, oldest state first."""
    from gavel.cli import output

    _, found = _call(path, "snapshot_list", {}, False)
    if json:
        output.print_json({"snapshots": found})
    elif found:
        rows = [(one["name"], output.moment(one["time"]), one["tid"], one["note"]) for one in found]
        output.table(("name", "state of", "tid", "note"), rows)
    else:
        output.say("there are no snapshots; make one with: gavel snapshot create PATH NAME")


@app.command()
def delete(path: PATH, name: Annotated[str, typer.Argument(help="The snapshot.")], json: JSON = False) -> None:
    """Forget a name. The state itself stays readable by its tid."""
    from gavel.cli import output

    gone, _ = _call(path, "snapshot_delete", {"name": name}, True)
    if json:
        output.print_json(gone)
    else:
        output.say(f"{gone['name']} is forgotten; its state can still be read as {gone['tid']}")
