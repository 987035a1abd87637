"""Commands about upkeep: retention, prune, reblock, scrub, dedup, cleanup, compression."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DIR = Annotated[Path, typer.Argument(metavar="DIR", help="A directory in a mount, or a volume.")]
VOLUME = Annotated[Path, typer.Argument(metavar="DIR", help="A volume or a path in its mount.")]


class Choice(StrEnum):
    """What to choose for a tree."""

    ON = "on"
    OFF = "off"
    INHERIT = "inherit"


def register(app: typer.Typer) -> None:
    """Add the commands of this family."""
    for command in (retention, prune, reblock, scrub, dedup, cleanup, compression):
        app.command()(command)


def retention(
    path: DIR,
    policy: Annotated[
        str | None, typer.Argument(metavar="[POLICY]", help="What to keep, like all:1d,hourly:7d,daily:60d.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="The directory has no policy of its own any more.")] = False,
    json: JSON = False,
) -> None:
    """Show or set how much of a tree's past is kept."""
    from gavel.cli import output
    from gavel.cli.calls import call
    from gavel.errors import BadRequest

    if policy is not None and forget:
        raise BadRequest("give a policy or --forget, not both")
    if policy is None and not forget:
        found, _ = call(path, "retention", inner=True)
    else:
        found, _ = call(path, "retention_set", {"policy": policy}, inner=True, writing=True)
    if json:
        output.print_json(found)
        return
    where = f"stored for {found['stored_for']}" if found["stored_for"] else "the default; nothing is ever dropped"
    output.say(f"{found['path']} keeps {found['policy']} ({where})")
    others = [one for one in found["policies"] if one["directory"] != (found["stored_for"] or "/")]
    if others:
        output.say("what any policy on the volume keeps is kept, so these count as well:")
        output.table(("directory", "policy"), [(one["directory"], one["policy"]) for one in others])


def prune(
    path: DIR,
    keep: Annotated[
        str | None, typer.Option(metavar="POLICY", help="In place of the directory's own policy, this once.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Keep the present and the named snapshots only; for the root.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    json: JSON = False,
) -> None:
    """Drop what no policy keeps. What is gone stays gone; Ctrl-C stops it, the next run goes on."""
    from gavel.cli import output
    from gavel.cli.calls import call

    args = {"keep": keep, "everything": everything, "dry_run": dry_run}
    found, _ = call(path, "prune", args, inner=True, writing=True, title="pruning")
    if json:
        output.print_json(found)
        return
    horizon = output.moment(found["horizon_time"])
    states = f"{output.count(found['kept'], 'state')} before that" if found["kept"] else "nothing before that"
    if found["versions"] is None:
        would = "would be" if dry_run else "is"
        output.say(f"every state from {horizon} on {would} kept, and {states}")
        output.say("each master drops what is before that by its own cleanup; at once by `gavel prune DIR` on each")
    elif dry_run:
        amount = f"{output.count(found['versions'], 'version')} with {output.size(found['bytes'])} of file data"
        output.say(f"{amount} would go; every state from {horizon} on would be kept, and {states}")
    else:
        output.say(f"{output.count(found['versions'], 'version')} dropped")
        output.say(f"every state from {horizon} on is kept, and {states}")
        if "node" in found:
            output.say(f"dropped on node {found['node']}; the other nodes drop theirs by their own cleanup")
        if found["versions"]:
            output.say("`gavel reblock` brings back the space of what was between things that are kept")


def reblock(path: VOLUME, json: JSON = False) -> None:
    """Get space back: move what is alive out of mostly dead parts of the volume."""
    from gavel.cli import output
    from gavel.cli.calls import call

    found, _ = call(path, "reblock", writing=True, title="reblocking")
    if json:
        output.print_json(found)
        return
    output.say(f"{output.size(found['returned'])} came back; {output.size(found['moved'])} of file data were moved")
    if found["damaged"]:
        output.say(f"{output.count(found['damaged'], 'extent')} did not verify and stayed; `gavel scrub` says which")


def scrub(
    path: VOLUME,
    limit: Annotated[
        float | None, typer.Option(metavar="MB/s", min=0.001, help="Read at most so many megabytes a second.")
    ] = None,
    json: JSON = False,
) -> None:
    """Read everything and verify every checksum. Exit code 5 when something is damaged."""
    from gavel.cli import output
    from gavel.cli.calls import call

    rate = None if limit is None else max(1, round(limit * 1_000_000))
    found, damaged = call(path, "scrub", {"rate": rate}, title="scrubbing")
    if json:
        output.print_json({**found, "damaged": damaged})
    else:
        if damaged:
            rows = [
                (
                    one["path"],
                    f"{one['start']:,} to {one['end']:,}",
                    output.moment(one["since_time"]),
                    output.moment(one["until_time"]) if one["until_time"] else "now",
                    one["problem"],
                )
                for one in damaged
            ]
            output.table(("path", "bytes", "from", "until", "what is wrong"), rows)
        amount = f"{output.count(found['nodes'], 'node')} and {output.size(found['bytes'])} of file data were read"
        worst = f"{output.count(found['damages'], 'place')} damaged" if found["damages"] else "nothing of it damaged"
        output.say(f"{amount}, {worst}")
    if found["damages"]:
        raise typer.Exit(output.DAMAGED)


def dedup(
    path: VOLUME,
    simulate: Annotated[bool, typer.Option("--simulate", help="Only say what it would save.")] = False,
    json: JSON = False,
) -> None:
    """Store the same content once; every candidate is compared byte by byte."""
    from gavel.cli import output
    from gavel.cli.calls import call

    found, _ = call(path, "dedup", {"simulate": simulate}, writing=not simulate, title="looking for the same content")
    if json:
        output.print_json(found)
        return
    amount = f"{found['duplicates']:,} of {output.count(found['extents'], 'extent')}"
    if simulate:
        output.say(f"{amount} are there already; storing them once would save {output.size(found['bytes'])}")
    else:
        output.say(f"{amount} were there already; {output.size(found['bytes'])} less is held")
        if found["bytes"]:
            output.say("the space comes back as parts of the volume become empty, or by `gavel reblock`")


def cleanup(
    path: VOLUME,
    show: Annotated[bool, typer.Option("--show", help="Show the tasks and how they stand; run nothing.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TASK=EVERY[/BUDGET]", help="Like scrub=30d/1h or dedup=never; run nothing."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="TASK", help="Run this task only; may be repeated.")] = None,
    json: JSON = False,
) -> None:
    """Run what is configured, now. A mounted volume does it by itself when it is due."""
    from gavel.cli import output
    from gavel.cli.calls import call
    from gavel.errors import BadRequest

    if show or settings:
        if only:
            raise BadRequest("--only says what to run; leave out --show and --set")
        for one in [_setting(text) for text in settings or ()]:
            call(path, "cleanup_set", one, writing=True)
        _, tasks = call(path, "cleanup_show")
        if json:
            output.print_json({"tasks": tasks})
        else:
            _show_tasks(tasks)
        return
    _, runs = call(path, "cleanup", {"names": only}, writing=True, title="cleaning up")
    if json:
        output.print_json({"runs": runs})
    else:
        for one in runs:
            output.say(f"{one['task']:<8} {one['note'] if one['error'] is None else 'failed: ' + one['error']}")
    if any(one["error"] is not None for one in runs):
        raise typer.Exit(output.FAILED)


def _setting(text: str) -> dict[str, Any]:
    from gavel.errors import BadRequest

    name, mark, value = text.partition("=")
    every, _, budget = value.partition("/")
    if not mark or not name or not every:
        raise BadRequest(f"{text!r} is no setting; write it like scrub=30d/1h or dedup=never")
    return {"name": name, "every": every, "budget": budget or None}


def _show_tasks(tasks: list[dict[str, Any]]) -> None:
    from gavel.cli import output
    from gavel.filesystem.retention import show_span

    rows = [
        (
            one["task"],
            "never" if one["every"] is None else show_span(one["every"]),
            show_span(one["budget"]),
            output.moment(one["next_time"]) if one["next_time"] else "",
            one["note"],
        )
        for one in tasks
    ]
    output.table(("task", "every", "at most", "due", "last time"), rows)


def compression(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A directory or file in a mount, or a volume.")],
    choice: Annotated[
        Choice | None, typer.Argument(help="on, off, or inherit: as the directory it is in.", show_default=False)
    ] = None,
    json: JSON = False,
) -> None:
    """Show or choose whether what is written from now on is compressed. New files inherit it."""
    from gavel.cli import output
    from gavel.cli.calls import call

    if choice is None:
        found, _ = call(path, "compression", inner=True)
    else:
        found, _ = call(path, "compression_set", {"choice": choice.value}, inner=True, writing=True)
    if json:
        output.print_json(found)
    else:
        shown = "default, which is off" if found["choice"] == "default" else found["choice"]
        output.say(f"compression of {found['path']}: {shown}")
