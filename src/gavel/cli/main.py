"""The command `gavel`: one family of commands a module; each imports what it needs when it runs.

An error is one sentence on stderr and an exit code (output.py); GAVEL_DEBUG=1 shows the traceback as well.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from gavel.cli import changes, cluster, lab, lost, members, mounts, recover, show, sim, snapshots, upkeep, volumes

app = typer.Typer(
    name="gavel",
    help="A filesystem with a perfect memory: every past state stays readable.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from gavel import __version__

        print(f"gavel {__version__}")
        raise typer.Exit


@app.callback()
def _gavel(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A filesystem with a perfect memory: every past state stays readable.

    PATH is a volume (a file or device), a path inside a mount, or VOLUME:/path/inside. WHEN is a tid (0x...), a date or
    time (2026-11-22T10:00), a time ago (-5m) or a snapshot's name.
    """


for family in (volumes, mounts, cluster, lab, changes, upkeep, show, recover, lost, sim):
    family.register(app)
app.add_typer(snapshots.app, name="snapshot")
app.add_typer(members.app, name="volume")


def run(arguments: list[str] | None = None) -> int:
    """Run one command line; the exit code."""
    import logging

    from gavel.cli import output

    logging.getLogger("gavel").addHandler(logging.NullHandler())  # stderr is for the one sentence
    try:
        app(args=arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
    except KeyboardInterrupt:
        print("gavel: interrupted", file=sys.stderr)
        return 130
    except Exception as problem:
        if os.environ.get("GAVEL_DEBUG"):
            import traceback

            traceback.print_exc()
        output.complain(problem)
        return output.exit_code(problem)
    return 0


def main() -> None:
    """Run the command line."""
    sys.exit(run())
