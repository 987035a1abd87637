"""Commands about labs: a whole cluster on this machine, and what can happen to its nodes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A cluster on this machine, to try things out.", no_args_is_help=True)

DIR = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the lab.")]
NUMBER = Annotated[int, typer.Argument(metavar="N", help="The number of a node in the lab.")]
JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Direction(StrEnum):
    """Which packets of a node are meant."""

    IN = "in"
    OUT = "out"


class NodeRole(StrEnum):
    """What a node can be."""

    MASTER = "master"
    SLAVE = "slave"
    WITNESS = "witness"


def register(main: typer.Typer) -> None:
    """Add the commands of this family."""
    main.add_typer(app, name="lab")


@app.command()
def up(
    directory: DIR,
    masters: Annotated[int, typer.Option(min=1, max=9, help="How many masters a new lab has.")] = 3,
    json: JSON = False,
) -> None:
    """Make a lab, or start one that is down, and mount it at DIR/mnt."""
    from gavel.cli import output
    from gavel.node.lab import Lab

    if (directory / "lab.json").exists():
        lab = Lab(directory)
        lab.up()
    else:
        lab = Lab.make(directory, masters)
    if json:
        output.print_json(
            {
                "mounted": str(lab.mnt) if lab.mounted else None,
                "url": lab.url,
                "identity": str(lab.identity),
                "nodes": lab.nodes,
            }
        )
    else:
        where = f", mounted at {lab.mnt}" if lab.mounted else ""
        output.say(f"{len(lab.nodes)} masters run{where}; clients use GAVEL_IDENTITY={lab.identity} and {lab.url}")


@app.command()
def down(directory: DIR) -> None:
    """End all of a lab in order; what is on disk stays."""
    from gavel.node.lab import Lab

    Lab(directory).down()


@app.command()
def kill(directory: DIR, number: NUMBER) -> None:
    """Kill a node's process."""
    from gavel.node.lab import Lab

    Lab(directory).kill(number)


@app.command()
def stop(directory: DIR, number: NUMBER) -> None:
    """Stop a node's process (SIGSTOP): it hangs, its connections stay."""
    from gavel.node.lab import Lab

    Lab(directory).stop(number)


@app.command(name="cont")
def continue_(directory: DIR, number: NUMBER) -> None:
    """Let a stopped node go on."""
    from gavel.node.lab import Lab

    Lab(directory).cont(number)


@app.command()
def start(directory: DIR, number: NUMBER) -> None:
    """Start a node that was killed."""
    from gavel.node.lab import Lab

    Lab(directory).start(number)


@app.command()
def cut(
    directory: DIR,
    number: NUMBER,
    one_way: Annotated[
        Direction | None, typer.Option(help="Drop only what is sent to it (in), or only what it sends (out).")
    ] = None,
) -> None:
    """Cut a node off: all its packets are dropped (labs made by root)."""
    from gavel.node.lab import Lab

    Lab(directory).cut(number, "both" if one_way is None else one_way.value)


@app.command()
def heal(directory: DIR, number: NUMBER) -> None:
    """Let a cut node's packets pass again."""
    from gavel.node.lab import Lab

    Lab(directory).heal(number)


@app.command()
def wipe(directory: DIR, number: NUMBER) -> None:
    """Take a node's disk away: it comes back empty, as a new member."""
    from gavel.node.lab import Lab

    Lab(directory).wipe(number)


@app.command()
def add(
    directory: DIR,
    role: Annotated[NodeRole, typer.Option(help="What it shall be.")] = NodeRole.MASTER,
    json: JSON = False,
) -> None:
    """Add a node to the lab."""
    from gavel.cli import output
    from gavel.node.lab import Lab
    from gavel.wire.messages import Role

    number = Lab(directory).add(Role[role.name])
    if json:
        output.print_json({"number": number})
    else:
        output.say(f"node {number} is there; `gavel status {directory}/n1` shows how it catches up")
