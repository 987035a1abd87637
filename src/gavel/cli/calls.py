"""One call on a volume, mounted or not, with what it lists and a bar for how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]


def call(
    path: Path | str,
    name: str,
    args: Json | None = None,
    *,
    writing: bool = False,
    inner: bool = False,
    title: str = "",
    key_file: Path | None = None,
) -> tuple[Json, list[Json]]:
    """The result of a call of node/service.py and what it listed.

    `inner`: the call is about a path in the volume, which becomes its argument `path`; else about the whole volume.
    `title`: it may take long, so show a bar under that name.
    """
    from gavel.cli import output
    from gavel.node.access import connect, locate

    target = locate(str(path), prefer_volume=not inner)
    given = {"path": target.inner, **(args or {})} if inner else args or {}
    items: list[Json] = []
    session = connect(target, writing=writing, key_file=None if key_file is None else str(key_file))
    try:
        with output.progress_bar(title, bool(title)) as advance:
            result = session.call(
                name, given, lambda kind, value: items.append(value) if kind == "item" else advance(value)
            )
    finally:
        session.close()
    return result, items
