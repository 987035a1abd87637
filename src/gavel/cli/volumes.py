"""Commands about whole volumes: mkfs, info, check, rekey, upgrade."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
KEY_FILE = Annotated[Path | None, typer.Option(help="The key file of an encrypted volume.")]
PATH = Annotated[Path, typer.Argument(help="A volume or a path in its mount.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this family."""
    app.command()(mkfs)
    app.command()(info)
    app.command()(check)
    app.command()(rekey)
    app.command()(upgrade)


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
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt it, for good; asks for a passphrase.")] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="Encrypt it with this key file, which is made if there is none.")
    ] = None,
    json: JSON = False,
) -> None:
    """Make a volume. Refuses what already holds data, naming it."""
    from gavel.cli import output
    from gavel.client.volumes import format_volume
    from gavel.node import keys
    from gavel.node.access import LocalSession, Offline

    key = None
    if encrypt or key_file is not None:
        key = keys.fresh(None if key_file is None else str(key_file), "passphrase for the volume: ", "GAVEL_PASSPHRASE")
    format_volume(path, size=None if size is None else parse_size(size), label=label, force=force, key=key)
    session = LocalSession(Offline(str(path), "/"), writing=False, key=key)
    try:
        made = session.call("info", {})
    finally:
        session.close()
    if json:
        output.print_json(made)
    else:
        kind = "an encrypted volume" if made["encryption"] else "a volume"
        output.say(f"{path} is {kind} of {output.size(made['size'])}; mount it with: gavel mount {path} DIR")
        if made["encryption"]:
            output.say(f"nobody can read it without the {made['encryption']}, also not you; keep it safe")


def info(
    path: PATH,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Also what each snapshot alone holds; looks at the whole past.")
    ] = False,
    key_file: KEY_FILE = None,
    json: JSON = False,
) -> None:
    """Show sizes (live, history, free), tids and counts."""
    from gavel.cli import output
    from gavel.node.access import connect, locate

    session = connect(locate(str(path), prefer_volume=True), key_file=None if key_file is None else str(key_file))
    alone: list[output.Json] = []
    try:
        found = session.call("info", {})
        if snapshots:
            with output.progress_bar("looking at snapshots", not json) as advance:
                session.call(
                    "snapshot_space",
                    {},
                    lambda kind, value: alone.append(value) if kind == "item" else advance(value),
                )
    finally:
        session.close()
    if json:
        output.print_json({**found, "snapshots": alone} if snapshots else found)
        return
    if "master" in found:
        _show_cluster(found)
    else:
        _show_info(found)
    if snapshots:
        rows = [(one["name"], output.moment(one["time"]), output.size(one["bytes"])) for one in alone]
        output.table(("snapshot", "state of", "holds alone"), rows, right=(2,))


def _show_cluster(found: dict[str, Any]) -> None:
    from gavel.cli import output

    members = ", ".join(f"{one['node']} ({one['role']})" for one in found["members"] or ())
    rows = [
        ("cluster", found["cluster"] or "?"),
        ("reached at", found["volume"]),
        ("mounted", found["mounted"] or "not mounted"),
        ("answers", f"node {found['master']}, epoch {found['epoch']}"),
        ("members", members),
        ("size", f"{output.size(found['size'])}, {output.size(found['free'])} free on that node"),
        ("made", f"{output.moment(found['created_time'])}  {found['created_tid']}"),
        ("last change", f"{output.moment(found['last_time'])}  {found['last_tid']}"),
        ("history from", f"{output.moment(found['horizon_time'])}  {found['horizon_tid']}"),
    ]
    _tell(rows)


def _tell(rows: list[tuple[str, str]]) -> None:
    from gavel.cli import output

    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        output.say(f"{name:<{width}}  {value}")


def _show_info(found: dict[str, Any]) -> None:
    from gavel.cli import output

    if "served" in found:
        mounted = f"served from {found['served']} as node {found['node']} of cluster {found['cluster']}"
    else:
        mounted = (found["mounted"] or "not mounted") + (
            " (read-only)" if found["mounted"] and found["read_only"] else ""
        )
    rows = [
        ("volume", found["volume"]),
        ("label", found["label"]),
        ("identity", found["identity"]),
        ("mounted", mounted),
        ("encryption", f"AES-256-GCM, opened by a {found['encryption']}" if found["encryption"] else "none"),
        ("format", f"version {found['version']}"),
        ("size", output.size(found["size"]) + (f" on {found['members']} devices" if found["members"] > 1 else "")),
        ("live", f"{output.size(found['live'])} of file data in the present"),
        ("history", f"{output.size(found['history'])} of file data that only the past has"),
        ("used", f"{output.size(found['log'])} by the log with all data, {output.size(found['trees'])} by trees"),
        ("free", output.size(found["free"])),
        ("made", f"{output.moment(found['created_time'])}  {found['created_tid']}"),
        (
            "last change",
            f"{output.moment(found['last_time'])}  {found['last_tid']}" if int(found["last_tid"], 16) else "none yet",
        ),
        ("history from", f"{output.moment(found['horizon_time'])}  {found['horizon_tid']}"),
        ("records", f"{found['records']:,} live, {found['past_records']:,} past"),
    ]
    _tell(rows)


def check(
    path: PATH,
    deep: Annotated[bool, typer.Option("--deep", help="Also read and verify every node and all file data.")] = False,
    key_file: KEY_FILE = None,
    json: JSON = False,
) -> None:
    """Check a volume, mounted or not. Exit code 5 when something is wrong with it."""
    from gavel.cli import output
    from gavel.node.access import connect, locate

    session = connect(locate(str(path), prefer_volume=True), key_file=None if key_file is None else str(key_file))
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


def rekey(
    path: PATH,
    key_file: KEY_FILE = None,
    new_key_file: Annotated[
        Path | None, typer.Option(help="Open it by this key file from now on; it is made if there is none.")
    ] = None,
    json: JSON = False,
) -> None:
    """Have another passphrase or key file open an encrypted volume. Its data stays as it is."""
    from gavel.cli import output
    from gavel.errors import BadRequest
    from gavel.node import keys
    from gavel.node.access import connect, locate

    session = connect(
        locate(str(path), prefer_volume=True), writing=True, key_file=None if key_file is None else str(key_file)
    )
    try:
        found = session.call("info", {})
        if "master" in found:
            raise BadRequest(
                "each master of a cluster has a volume with a key of its own; name the directory of a node"
            )
        if not found["encryption"]:
            raise BadRequest("the volume is not encrypted and has no key to change; copy it to one that is")
        key = keys.fresh(
            None if new_key_file is None else str(new_key_file), "new passphrase: ", "GAVEL_NEW_PASSPHRASE"
        )
        done = session.call("rekey", {"key": keys.pack(key)})
    finally:
        session.close()
    if json:
        output.print_json(done)
    else:
        output.say(
            f"the new {done['encryption']} opens it, the old one no more; whoever has an old copy of it can still"
        )


def upgrade(path: PATH, key_file: KEY_FILE = None, json: JSON = False) -> None:
    """Make a volume of an older release one of this release's format, for good. Opening it for writing does so, too."""
    from gavel.cli import output
    from gavel.cli.calls import call

    before = call(path, "info", key_file=key_file)[0]["version"]
    done, _ = call(path, "upgrade", writing=True, key_file=key_file)
    if json:
        output.print_json({"before": before, **done})
    elif before == done["version"]:
        output.say(f"it is of format {before} already, the newest that this gavel knows")
    else:
        output.say(f"it was of format {before} and is of format {done['version']} now; older releases refuse it")
