"""The key of an encrypted volume: where it is found, and how it is handed to the process that needs it.

A key is never part of a command line, an environment that this process makes, a log or an error. It comes from a key
file, from GAVEL_PASSPHRASE or GAVEL_KEY_FILE, or is asked for on the terminal without echo.
"""

from __future__ import annotations

import os
import secrets
import sys
from typing import TYPE_CHECKING

from gavel.errors import BadRequest
from gavel.node.protocol import Json

if TYPE_CHECKING:
    from gavel.media.cipher import Key


def key_of(volume: str, key_file: str | None = None) -> Key | None:
    """The key for the volume at a path; None where it needs none, or none is to be found (opening it says so then).

    Raises FileNotFoundError and the like for the volume or the key file, NotAVolume, NewerFormat, Damaged.
    """
    from gavel.media.cipher import lock_kind
    from gavel.media.recovery import newest_header
    from gavel.runtime.file_device import FileDevice

    if key_file is not None:
        return from_file(key_file)
    device = FileDevice(volume, read_only=True, exclusive=False)
    try:
        kind = lock_kind(newest_header(device).lock)
    finally:
        device.close()
    return find(kind) if kind else None


def find(kind: str) -> Key | None:
    """The key of that kind ("passphrase", "key file") that this process was given, or is given when it asks."""
    if kind == "key file":
        named = os.environ.get("GAVEL_KEY_FILE")
        return None if named is None else from_file(named)
    return passphrase("passphrase: ", "GAVEL_PASSPHRASE")


def passphrase(prompt: str, variable: str, *, twice: bool = False) -> Key | None:
    """A passphrase from the environment, else from the terminal, where there is one; None for an empty one.

    `twice`: it is a new one and must be given twice alike; raises BadRequest if it is not.
    """
    from getpass import getpass

    from gavel.media.cipher import Passphrase

    given = os.environ.get(variable)
    if given is None and sys.stdin.isatty():
        given = getpass(prompt)
        if twice and given and getpass("the same again: ") != given:
            raise BadRequest("the two passphrases differ; nothing was changed, try again")
    return Passphrase(given) if given else None


def fresh(key_file: str | None, prompt: str, variable: str) -> Key:
    """A key to lock a volume with: from a key file, which is made if there is none, else a new passphrase."""
    if key_file is not None:
        make_file(key_file)
        return from_file(key_file)
    found = passphrase(prompt, variable, twice=True)
    if found is None:
        raise BadRequest(f"no passphrase; type one on a terminal, set {variable}, or name a key file")
    return found


def from_file(path: str) -> Key:
    """The key in a key file."""
    from gavel.media.cipher import KeyFile

    with open(path, "rb") as file:
        return KeyFile(file.read(1024))


def make_file(path: str) -> None:
    """Make a key file, readable by its owner only; one that is there already is left alone."""
    from gavel.media.cipher import KEY_SIZE

    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    with open(handle, "wb") as file:
        file.write(secrets.token_bytes(KEY_SIZE))
        file.flush()
        os.fsync(handle)


def pack(key: Key) -> Json:
    """A key as a message for the pipe or the private socket of a mount's process."""
    from gavel.media.cipher import Passphrase

    if isinstance(key, Passphrase):
        return {"passphrase": key.text}
    return {"key": key.key.hex()}


def unpack(message: Json) -> Key:
    """The key in a message; raises BadRequest for another message."""
    from gavel.media.cipher import KeyFile, Passphrase

    match message:
        case {"passphrase": str(text)}:
            return Passphrase(text)
        case {"key": str(text)}:
            return KeyFile(bytes.fromhex(text))
        case _:
            raise BadRequest("this is no key; use the same release of gavel on both sides")
