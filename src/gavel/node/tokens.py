"""Tokens: one line that lets its holder join a cluster once, and tells where and whom to believe.

    gavel-join-BASE64    of MessagePack [1, address, cluster, fingerprint of the authority, id, secret, role, expires]
                         and its CRC-32C, so that a line that was cut off is told from one that is not known

The master that made a token keeps a digest of the secret, never the secret. A token expires by that master's clock, and
is used up by the first key that joins with it; the same key may ask again, since an answer can be lost.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from crc32c import crc32c

from gavel.errors import BadToken
from gavel.wire.messages import Role

_PREFIX: Final = "gavel-join-"
_FORM: Final = 1
ID_SIZE: Final = 8
SECRET_SIZE: Final = 24
_KEEP_SECONDS: Final = 30 * 86_400  # how long what became of a token can be told

Secret = bytes  # id and secret together, ID_SIZE + SECRET_SIZE


class Token(NamedTuple):
    """What a token says. `expires` is in seconds since 1970."""

    address: str
    cluster: bytes
    authority: bytes
    secret: Secret
    role: Role
    expires: int


def text(token: Token) -> str:
    """The token as one line to paste."""
    secret = token.secret
    body = msgspec.msgpack.encode(
        (
            _FORM, token.address, token.cluster, token.authority, secret[:ID_SIZE], secret[ID_SIZE:], token.role,
            token.expires,
        )
    )  # fmt: skip
    whole = body + crc32c(body).to_bytes(4, "little")
    return _PREFIX + base64.urlsafe_b64encode(whole).decode().rstrip("=")


def parse(line: str) -> Token:
    """A token from its line; raises BadToken."""
    packed = line.strip().removeprefix(_PREFIX)
    if packed == line.strip():
        raise BadToken(f"is none: it does not begin with {_PREFIX}")
    try:
        whole = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    except (binascii.Error, ValueError):
        raise BadToken("is not whole, or something was added to it") from None
    body, total = whole[:-4], whole[-4:]
    if crc32c(body).to_bytes(4, "little") != total:
        raise BadToken("is not whole, or something was changed in it")
    try:
        form, address, cluster, authority, name, secret, role, expires = msgspec.msgpack.decode(
            body, type=tuple[int, str, bytes, bytes, bytes, bytes, int, int]
        )
        token = Token(address, cluster, authority, name + secret, Role(role), expires)
    except (msgspec.MsgspecError, ValueError):
        raise BadToken("was made by another release") from None
    if form != _FORM or len(cluster) != 16 or len(authority) != 32 or len(token.secret) != ID_SIZE + SECRET_SIZE:
        raise BadToken("was made by another release")
    return token


class Tokens:
    """The tokens that a master has made, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self, address: str, cluster: bytes, authority: bytes, role: Role, now: int, seconds: int) -> Token:
        """A new token; it is on disk when this returns."""
        secret = os.urandom(ID_SIZE + SECRET_SIZE)
        token = Token(address, cluster, authority, secret, role, now + seconds)
        with self._held() as kept:
            for name in [name for name, one in kept.items() if one["expires"] + _KEEP_SECONDS < now]:
                del kept[name]
            kept[secret[:ID_SIZE].hex()] = {
                "digest": _digest(secret),
                "role": role.name.lower(),
                "expires": token.expires,
                "used_by": None,
                "node": None,
            }
        return token

    def check(self, secret: Secret, now: int) -> Role:
        """The role that a token gives; raises BadToken. What is wrong with it is told to its holder only."""
        return _known(self._read(), secret, now)[1]

    def use(self, secret: Secret, key: bytes, node: int, now: int) -> int:
        """Use a token up for the holder of a key (its digest), who becomes this node, or is one by it already.

        Returns the node id; durable when it returns. Raises BadToken.
        """
        with self._held() as kept:
            one, _ = _known(kept, secret, now)
            if one["used_by"] not in (None, key.hex()):
                raise BadToken("was used already")
            if one["used_by"] is None:
                one["used_by"], one["node"] = key.hex(), node
            return int(one["node"])

    def nodes(self) -> set[int]:
        """The node ids that were given to users of tokens."""
        return {int(one["node"]) for one in self._read().values() if one["node"] is not None}

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found: dict[str, dict[str, Any]] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    @contextmanager
    def _held(self) -> Iterator[dict[str, dict[str, Any]]]:
        """The tokens, for changing; whoever else would change them waits."""
        with open(self._path.with_suffix(".lock"), "w", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = self._read()
            yield kept
            write_private(self._path, json.dumps(kept, indent=1).encode())


def _known(kept: dict[str, dict[str, Any]], secret: Secret, now: int) -> tuple[dict[str, Any], Role]:
    one = kept.get(secret[:ID_SIZE].hex())
    if one is None or not hmac.compare_digest(one["digest"], _digest(secret)):
        raise BadToken("is not known on that master: it was made elsewhere, or long ago")
    if now >= one["expires"]:
        raise BadToken("has expired")
    return one, Role[one["role"].upper()]


def _digest(secret: Secret) -> str:
    return hashlib.sha256(secret).hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_private(path: Path, content: bytes) -> None:
    """Put a file in place that its owner alone can read; durable, all or nothing."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with open(temporary, "xb", opener=_private) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
