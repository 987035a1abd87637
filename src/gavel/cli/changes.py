"""Commands about the past: tid, history, log, diff, undo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from gavel.node.access import OnStep, Session, Target

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
WHEN = "a tid (0x...), a date or time, a time ago (-5m) or a snapshot's name"

_PATHS_SHOWN = 10  # of one transaction, for people; JSON has them all


def register(app: typer.Typer) -> None:
    """Add the commands of this family."""
    app.command()(tid)
    app.command()(history)
    app.command()(log)
    app.command(context_settings={"ignore_unknown_options": True})(diff)
    app.command()(undo)


def _reach(path: Path | str, writing: bool = False) -> tuple[Target, Session]:
    from gavel.node.access import connect, locate

    target = locate(str(path))
    return target, connect(target, writing=writing)


def _collect(into: list[dict[str, Any]], advance: Callable[[dict[str, Any]], None] | None = None) -> OnStep:
    def step(kind: str, value: dict[str, Any]) -> None:
        if kind == "item":
            into.append(value)
        elif advance is not None:
            advance(value)

    return step


def tid(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A path in a mount, or a volume.")], json: JSON = False
) -> None:
    """Make everything durable and print the tid that names this very state."""
    from gavel.cli import output

    _, session = _reach(path)
    try:
        found = session.call("tid", {})
    finally:
        session.close()
    if json:
        output.print_json(found)
    else:
        print(found["tid"])


def history(
    path: Annotated[str, typer.Argument(metavar="FILE", help="A file or directory; it may be deleted by now.")],
    json: JSON = False,
) -> None:
    """Show every version of a file: when, how large, what changed."""
    from gavel.cli import output

    versions: list[dict[str, Any]] = []
    target, session = _reach(path)
    try:
        session.call("history", {"path": target.inner}, _collect(versions))
    finally:
        session.close()
    if json:
        output.print_json({"path": target.inner, "versions": versions})
        return
    rows = [
        (one["tid"], output.moment(one["time"]), output.size(one["size"]), ", ".join(one["changes"]))
        for one in versions
    ]
    output.table(("tid", "time", "size", "what changed"), rows, right=(2,))


def log(
    path: Annotated[str, typer.Argument(metavar="DIR", help="A directory or file in a mount, or a volume.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Show at most so many; 0 for all.")] = 50,
    since: Annotated[str | None, typer.Option(help=f"Only after WHEN: {WHEN}.")] = None,
    until: Annotated[str | None, typer.Option(help="Only up to WHEN.")] = None,
    json: JSON = False,
) -> None:
    """Show the transactions that touched a tree, newest first, with the paths they changed."""
    from gavel.cli import output

    entries: list[dict[str, Any]] = []
    target, session = _reach(path)

    def step(kind: str, value: dict[str, Any]) -> None:
        if kind != "item":
            return
        if json:
            entries.append(value)
        else:
            _show_transaction(value)

    try:
        args = {"path": target.inner, "since": since, "until": until, "limit": limit or None}
        result = session.call("log", args, step)
    finally:
        session.close()
    if json:
        output.print_json({"path": target.inner, "transactions": entries, **result})
    elif result["more"]:
        output.say(f"there are more; --limit 0 shows all, --until {result['until']} goes on from here")


def _show_transaction(one: dict[str, Any]) -> None:
    from gavel.cli import output

    output.say(f"{one['tid']}  {output.moment(one['time'])}")
    for change in one["paths"][:_PATHS_SHOWN]:
        moved = f"{change['old_path']} -> " if change["old_path"] else ""
        output.say(f"    {', '.join(change['changes']):<12} {moved}{change['path']}")
    if len(one["paths"]) > _PATHS_SHOWN:
        output.say(f"    and {len(one['paths']) - _PATHS_SHOWN} more")


def diff(
    path: Annotated[str, typer.Argument(help="A file or directory.")],
    when: Annotated[str, typer.Argument(metavar="WHEN", help=f"The older state: {WHEN}.")],
    until: Annotated[
        str | None, typer.Argument(metavar="[WHEN]", help="The newer state; the present by default.")
    ] = None,
    json: JSON = False,
) -> None:
    """Show what is different in a tree between two times; of a text file, the lines."""
    from gavel.cli import output

    found: list[dict[str, Any]] = []
    target, session = _reach(path)
    try:
        args = {"path": target.inner, "old": when, "new": until, "lines": not json}
        result = session.call("diff", args, _collect(found))
    finally:
        session.close()
    if json:
        output.print_json({"path": target.inner, "differences": found, **result})
        return
    for one in found:
        sizes = ""
        if one["old_size"] is not None or one["new_size"] is not None:
            sizes = f"  {output.size(one['old_size']) or '-'} -> {output.size(one['new_size']) or '-'}"
        moved = f"{one['old_path']} -> " if one["old_path"] else ""
        what = f"  ({', '.join(one['changes'])})" if one["changes"] else ""
        output.say(f"{one['change']:<8} {moved}{one['path']}{sizes}{what}")
        for line in one.get("lines") or ():
            output.say(f"    {line}")
    if not found:
        output.say("no difference")


def undo(
    path: Annotated[str, typer.Argument(help="A file or directory; it may be deleted by now.")],
    to: Annotated[
        str | None, typer.Option(metavar="WHEN", help=f"Back to WHEN: {WHEN}. Else before its last change.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    json: JSON = False,
) -> None:
    """Bring a file or a whole tree back to what it was. Itself a change: undo it by its tid."""
    from gavel.cli import output

    actions: list[dict[str, Any]] = []
    target, session = _reach(path, writing=not dry_run)
    try:
        with output.progress_bar("undoing", not json) as advance:
            args = {"path": target.inner, "to": to, "dry_run": dry_run}
            result = session.call("undo", args, _collect(actions, advance))
    finally:
        session.close()
    if json:
        output.print_json({"actions": actions, **result})
        return
    for one in actions[: None if dry_run else _PATHS_SHOWN]:
        moved = f"{one['old_path']} -> " if one["old_path"] else ""
        what = f"  ({', '.join(one['changes'])})" if one["changes"] else ""
        output.say(f"{one['action']:<8} {moved}{one['path']}{what}")
    if not dry_run and len(actions) > _PATHS_SHOWN:
        output.say(f"and {len(actions) - _PATHS_SHOWN} more")
    shown, back = result["path"], f"{output.moment(result['to_time'])} ({result['to_tid']})"
    if dry_run and actions:
        output.say(f"{output.count(len(actions), 'change')} would bring {shown} back to {back}")
    elif actions:
        output.say(f"{shown} is as of {back} again; --to {result['before_tid']} takes that back")
    else:
        output.say(f"nothing to do: {shown} is as of {back}")
