"""Commands about clusters: cluster create, invite, join, rotate, promote, demote, remove; serve; status; leases."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Several masters that hold one filesystem.", no_args_is_help=True)

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
KEY_FILE = Annotated[Path | None, typer.Option(help="The key file of an encrypted volume.")]
DIRECTORY = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a node.")]
AT = Annotated[
    Path | None, typer.Option("--dir", help="The directory of a node served here; else $GAVEL_DIR, or this directory.")
]
NODE = Annotated[int, typer.Argument(metavar="NODE", help="Its number, as `gavel status` shows it.")]
LISTEN = Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it listens.")]
ADDRESS = Annotated[str, typer.Option(metavar="HOST:PORT", help="Where others reach it, if that is another address.")]
NAME = Annotated[str, typer.Option(help="A name for people; the host's by default.")]
SIZE = Annotated[str | None, typer.Option(help="What its volume may grow to, 64G by default; a file is sparse.")]


class RoleName(StrEnum):
    """What a node can be invited as."""

    MASTER = "master"
    SLAVE = "slave"
    WITNESS = "witness"
    CLIENT = "client"


class LogStyle(StrEnum):
    """How a daemon logs."""

    TEXT = "text"
    JSON = "json"


def register(main: typer.Typer) -> None:
    """Add the commands of this family."""
    main.add_typer(app, name="cluster")
    main.command()(serve)
    main.command()(status)
    main.command()(leases)


@app.command()
def create(
    directory: DIRECTORY,
    listen: LISTEN,
    address: ADDRESS = "",
    name: NAME = "",
    source: Annotated[
        Path | None, typer.Option("--from", help="A volume that becomes the cluster's, where it lies.")
    ] = None,
    size: SIZE = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt the volume, for good; asks for a passphrase.")
    ] = False,
    key_file: KEY_FILE = None,
    json: JSON = False,
) -> None:
    """Make the first master of a new cluster: identity, certificate authority, volume."""
    from gavel.cli import output
    from gavel.errors import BadRequest
    from gavel.node import founding, joining
    from gavel.node.directory import made

    if source is not None and (size is not None or encrypt or key_file is not None):
        raise BadRequest("a volume that exists has its size and its key; leave --size, --encrypt and --key-file out")
    adopted = None if source is None else founding.check_adoptable(source)
    wanted, key = _size(size), _fresh_key(encrypt, key_file)
    node = joining.create(str(directory), listen, address, name)
    with made(node):
        if adopted is None:
            founding.make(node.path, wanted, key)
        else:
            founding.adopt(node.path, adopted)
    _say_made(node, json)
    if not json:
        output.say(f"start it with: gavel serve {directory}")


@app.command()
def invite(
    directory: DIRECTORY,
    role: Annotated[RoleName, typer.Option(help="What the new node will be.")],
    hours: Annotated[int, typer.Option(min=1, max=24 * 365, help="How long the token can be used.")] = 24,
    json: JSON = False,
) -> None:
    """Make a token: one line that lets one node join. Whoever has it can join, so pass it on like a key."""
    from gavel.cli import output
    from gavel.node.directory import Directory
    from gavel.node.joining import invite
    from gavel.wire.messages import Role

    token = invite(Directory(directory), Role[role.value.upper()], hours * 3600)
    if json:
        output.print_json({"token": token, "role": role.value, "hours": hours})
    else:
        print(token)


@app.command()
def join(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="What `gavel cluster invite` printed.")],
    directory: DIRECTORY,
    listen: LISTEN = "",
    address: ADDRESS = "",
    name: NAME = "",
    size: SIZE = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt its volume, for good; asks for a passphrase.")
    ] = False,
    key_file: KEY_FILE = None,
    json: JSON = False,
) -> None:
    """Make this machine a node of a cluster. Its volume is its own; what is in it comes from the others."""
    from gavel.cli import output
    from gavel.node import founding, joining
    from gavel.node.directory import made
    from gavel.wire.messages import Role

    wanted, key = _size(size), _fresh_key(encrypt, key_file)
    node, created = joining.join(token, str(directory), listen, address, name)
    if node.settings.role is not Role.CLIENT:
        with made(node):
            founding.make_empty(node.path, wanted, key, created)
    _say_made(node, json)
    if not json and node.settings.role is not Role.CLIENT:
        output.say(f"start it with: gavel serve {directory}")


@app.command()
def rotate(
    directory: DIRECTORY,
    authority: Annotated[
        bool, typer.Option("--authority", help="On a master: a new authority for the whole cluster instead.")
    ] = False,
    json: JSON = False,
) -> None:
    """Give a node or a client a new key and certificate; a daemon that serves it goes on with them."""
    from gavel.cli import output
    from gavel.errors import BadRequest
    from gavel.node.authority import fingerprint
    from gavel.node.directory import Directory
    from gavel.node.renewing import renew

    made, number = Directory(directory), None
    if authority:
        from gavel.node.trust import replace_authority

        number = replace_authority(made)
    else:
        renew(made)
    try:
        _call(directory, "reload", {})
        served = True
    except BadRequest:
        served = False
    pinned = fingerprint(made.material.certificate.read_bytes()).hex()
    if json:
        output.print_json({"certificate": pinned, "authority": number, "reloaded": served})
    elif number is not None:
        output.say(
            f"authority {number} signs from now on; `gavel cluster rotate DIR` for each client, then for each node"
            + ("" if served else ". Start this node, so that the others hear of it")
        )
    else:
        who = f"node {made.settings.node}" if made.settings.node else "this client"
        output.say(f"the certificate of {who} is now {pinned[:32]}…")


@app.command()
def promote(node: NODE, directory: AT = None, json: JSON = False) -> None:
    """Have a slave vote, once it has caught up."""
    _told(_call(_here(directory), "role", {"node": node, "role": "master"}), json, f"node {node} will be a master")


@app.command()
def demote(node: NODE, directory: AT = None, json: JSON = False) -> None:
    """Have a master go on as a slave: it keeps everything, and does not vote."""
    _told(_call(_here(directory), "role", {"node": node, "role": "slave"}), json, f"node {node} will be a slave")


@app.command()
def remove(node: NODE, directory: AT = None, json: JSON = False) -> None:
    """Have a node leave for good. Its number and its certificate are worth nothing any more."""
    _told(_call(_here(directory), "remove", {"node": node}), json, f"node {node} leaves the cluster")


def serve(
    directory: DIRECTORY,
    unit: Annotated[bool, typer.Option("--unit", help="Print a systemd unit for it instead.")] = False,
    log: Annotated[LogStyle | None, typer.Option(help="Log lines for people, or JSON; else as node.toml says.")] = None,
    key_file: KEY_FILE = None,
) -> None:
    """Serve a node until told to end. Logs to stderr; SIGHUP reads its configuration again."""
    import getpass
    import sys

    from gavel.node import logs, notify
    from gavel.node.directory import Directory
    from gavel.node.keys import key_of
    from gavel.node.serving import run

    found = Directory(directory)
    if unit:
        program = Path(sys.argv[0]).absolute()
        command = [str(program)] if program.name != "__main__.py" else [sys.executable, "-m", "gavel"]
        command += ["serve", str(found.path)]
        command += [] if key_file is None else ["--key-file", str(key_file.absolute())]
        print(notify.unit(command, str(found.path), getpass.getuser()), end="")
        return
    logs.configure(found.settings.log if log is None else log.value, found.settings.node)
    key = key_of(str(found.volume), None if key_file is None else str(key_file)) if found.volume.exists() else None
    run(found, key)


def status(
    where: Annotated[str, typer.Argument(metavar="[DIR|URL]", help="A node's directory, or gavel://HOST:PORT.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    json: JSON = False,
) -> None:
    """Show the members: who is up, how far each is, who catches up."""
    _shown(lambda: _status(where), _show, watch=watch, json=json)


def leases(
    where: Annotated[str, typer.Argument(metavar="[DIR|URL]", help="A node's directory, or gavel://HOST:PORT.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    json: JSON = False,
) -> None:
    """Show which clients hold what, so that they need not ask; how much is recalled, and what the tables take."""
    _shown(lambda: _leases(where), _show_leases, watch=watch, json=json)


def _shown(
    ask: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None], *, watch: bool, json: bool
) -> None:
    """Show an answer, with `watch` again every second, also when there is none for a while."""
    import sys
    import time

    from gavel.cli import output
    from gavel.errors import GavelError

    while True:
        try:
            found = ask()
        except (GavelError, OSError) as problem:
            if not watch:
                raise
            output.complain(problem)
        else:
            if json:
                output.print_json(found)
            else:
                if watch:
                    output.console().clear()
                show(found)
        if not watch:
            return
        sys.stdout.flush()  # also where nobody looks on
        time.sleep(1)


def _leases(where: str) -> dict[str, Any]:
    if where.startswith("gavel://"):
        from gavel.node.reach import leases_of

        return leases_of(where)
    return _call(Path(where) if where else _here(None), "leases", {})


def _show_leases(found: dict[str, Any]) -> None:
    from gavel.cli import output

    rows = []
    for one in found["holders"]:
        name = one["name"] or one["session"][:8]
        for held in one["held"] or [{"level": "nothing", "mode": "", "masters": []}]:
            rows.append((name, one["where"], held["level"], held["mode"], " ".join(map(str, held["masters"]))))
            name = ""
        if one["ranges"] > len(one["held"]):
            rows.append(("", "", f"{one['ranges'] - len(one['held'])} more", "", ""))
    output.table(("client", "from", "holds", "mode", "by masters"), rows)
    tables = [
        (
            str(one["node"]), str(one.get("sessions", 0)), str(one.get("ranges", 0)), f"{one.get('bytes', 0):,}",
            str(one.get("waiting", 0)), f"{one.get('recalls_per_second', 0.0):,.1f}", _grace(one),
        )
        for one in found["masters"]
    ]  # fmt: skip
    heads = ("master", "clients", "ranges", "bytes", "wait", "recalls a second", "")
    output.table(heads, tables, right=(0, 1, 2, 3, 4, 5))


def _grace(table: dict[str, Any]) -> str:
    return f"grants nothing for {table['grace_ms'] / 1000:.1f} s yet" if table["grace_ms"] else ""


def _status(where: str) -> dict[str, Any]:
    if where.startswith("gavel://"):
        from gavel.node.reach import status_of

        return status_of(where)
    if where and (Path(where) / "lab.json").is_file():
        from gavel.node.lab import Lab

        return Lab(where).ask("status", {})
    return _call(Path(where) if where else _here(None), "status", {})


def _show(found: dict[str, Any]) -> None:
    from gavel.cli import output

    rows = []
    for one in found["members"]:
        role = one["role"] if one["role"] == one["wanted"] else f"{one['role']} (to be {one['wanted']})"
        rows.append((str(one["node"]), one["name"], one["url"], role, *_state(one)))
    output.table(("node", "name", "url", "role", "state", "lag", "round trip"), rows, right=(0, 5, 6))
    rate = found.get("commits_per_second", 0.0)
    output.say(
        f"cluster {found['cluster']}, epoch {found.get('epoch', 0)}, everything up to {found['sync_tid']} is known, "
        f"{rate:,.1f} commits a second"
    )
    for one in found["members"]:
        if one["problem"]:
            output.say(f"node {one['node']}: {one['problem']}")
    if found.get("problem"):
        output.say(f"this node: {found['problem']}")
    voters = [one for one in found["members"] if one["role"] in ("master", "witness")]
    up = sum(one["up"] for one in voters)
    if 2 * up <= len(voters):
        output.say(f"no majority: {up} of {len(voters)} voters can be reached, so nothing is decided; start the others")


def _state(one: dict[str, Any]) -> tuple[str, str, str]:
    state = "up" if one["up"] else "down"
    catching = one["catch_up"]
    if catching and not catching.get("horizon"):
        state = f"catching up, {catching['done']:.0%}{_left(catching)}"
    elif one["problem"]:
        state = f"{state}, see below"
    lag = "" if one["lag_ms"] is None else f"{one['lag_ms']} ms"
    trip = "" if not one["rtt_us"] else f"{one['rtt_us'] / 1000:.1f} ms"
    return state, lag, trip


def _left(catching: dict[str, Any]) -> str:
    """How long catching up will take yet, if that can be told."""
    left = catching.get("left_ms")
    if left is None:
        return ""
    seconds = round(left / 1000)
    return f", {seconds} s left" if seconds < 120 else f", {seconds // 60} min left"


def _here(directory: Path | None) -> Path:
    """The directory of a node that a command without one means."""
    from gavel.errors import BadRequest
    from gavel.node.layout import looks_like_node

    for candidate in (directory, os.environ.get("GAVEL_DIR"), Path.cwd()):
        if candidate is not None and looks_like_node(candidate):
            return Path(candidate)
        if candidate is directory and directory is not None:
            break
    raise BadRequest("which node shall be asked? Name its directory (--dir, GAVEL_DIR), or go there")


def _call(directory: Path, name: str, args: dict[str, Any]) -> dict[str, Any]:
    from gavel.node.calls import call
    from gavel.node.directory import Directory
    from gavel.node.layout import SOCKET, looks_like_node

    if not looks_like_node(directory):
        Directory(directory)  # says what it is not
    return call(Path(directory).absolute() / SOCKET, name, args)


def _told(result: dict[str, Any], json: bool, text: str) -> None:
    from gavel.cli import output

    if json:
        output.print_json(result)
    else:
        output.say(f"{text}; `gavel status` shows when")


def _say_made(made: Any, json: bool) -> None:
    from gavel.cli import output

    settings = made.settings
    if json:
        output.print_json({
            "directory": str(made.path), "cluster": settings.cluster.hex(), "node": settings.node,
            "role": settings.role.name.lower(), "address": settings.address,
        })  # fmt: skip
    elif settings.node:
        output.say(
            f"{made.path} is node {settings.node} ({settings.role.name.lower()}) of cluster {settings.cluster.hex()}"
        )
    else:
        output.say(f"{made.path} is the identity of a client of cluster {settings.cluster.hex()}")


def _size(text: str | None) -> int | None:
    from gavel.cli.volumes import parse_size
    from gavel.errors import BadRequest
    from gavel.limits import MIB, VOLUME_MIN

    size = None if text is None else parse_size(text)
    if size is not None and size < VOLUME_MIN:
        raise BadRequest(f"a volume needs at least {VOLUME_MIN // MIB} MiB; ask for more")
    return size


def _fresh_key(encrypt: bool, key_file: Path | None) -> Any:
    from gavel.node import keys

    if not encrypt and key_file is None:
        return None
    return keys.fresh(None if key_file is None else str(key_file), "passphrase for the volume: ", "GAVEL_PASSPHRASE")
