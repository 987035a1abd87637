"""Encryption at rest: the volume's data key under a lock, and what is sealed with it.

A volume has one data key for life, wrapped in its header under a passphrase (by scrypt) or a key file; changing
passphrase or file wraps it anew and touches nothing else. A sealed text is

    life u32 | seed 8 bytes | counter u64 | ciphertext | tag 16 bytes

AES-256-GCM under a key of the session (life and seed), with the counter as nonce. Invariants:

- a pair of session and counter seals at most one text, ever: within an opening the counter only goes up, and every
  opening for writing has a life of its own, which is durable before the first text is sealed under it; the seed is
  random, so two copies of one volume differ too although they count the same lives;
- the tag also covers what the text is and where it lies, so that none passes for another or in another place.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from struct import Struct
from typing import Final
from unicodedata import normalize

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gavel.errors import BadRequest, Damaged, KeyNeeded, WrongKey
from gavel.limits import SCRYPT_COST, SCRYPT_COST_MAX
from gavel.media.device import Buffer
from gavel.media.layout import SEAL_HEAD, SEAL_SIZE, SEAL_TAG

KEY_SIZE: Final = 32
SEED_SIZE: Final = 8
_SALT_SIZE, _NONCE_SIZE = 32, 12
LOCK_ENTROPY: Final = _SALT_SIZE + _NONCE_SIZE  # random bytes that a lock takes
FORMAT_ENTROPY: Final = KEY_SIZE + LOCK_ENTROPY + SEED_SIZE  # random bytes that making a volume takes

PASSPHRASE, KEY_FILE = 1, 2
_NAMES: Final = {PASSPHRASE: "passphrase", KEY_FILE: "key file"}
LOCK: Final = Struct("<BBBx32s12s48s")
LOCK_FIELDS: Final = ["kind", "cost", "blocks", "salt", "nonce", "wrapped"]
_BLOCKS: Final = 8  # scrypt's r; its p is 1
_SESSIONS_MAX: Final = 256  # keys of earlier sessions kept at hand

_COVERED: Final = Struct("<4sIQ")  # what the tag covers besides: magic, number, place


@dataclass(frozen=True, slots=True)
class Passphrase:
    """Opens by scrypt, with 2 ** `cost` blocks of 1 KiB when a lock is made (an existing lock has its own)."""

    text: str = field(repr=False)
    cost: int = SCRYPT_COST

    kind = PASSPHRASE


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Opens by the 32 bytes of a key file."""

    key: bytes = field(repr=False)

    kind = KEY_FILE


Key = Passphrase | KeyFile


def make_lock(key: Key, data_key: bytes, identity: bytes, entropy: bytes) -> bytes:
    """The data key wrapped under a key, for the volume of that identity; `entropy`: LOCK_ENTROPY fresh random bytes.

    Raises BadRequest for a key that cannot be.
    """
    assert len(entropy) == LOCK_ENTROPY, "a lock needs fresh random bytes"
    cost = key.cost if isinstance(key, Passphrase) else 0
    if isinstance(key, Passphrase) and not (key.text and 1 <= cost <= SCRYPT_COST_MAX):
        raise BadRequest(f"a passphrase is not empty, and its cost from 1 to {SCRYPT_COST_MAX}; choose another")
    if isinstance(key, KeyFile) and len(key.key) != KEY_SIZE:
        raise BadRequest(f"a key file has exactly {KEY_SIZE} random bytes, this one {len(key.key)}; make another")
    salt, nonce = entropy[:_SALT_SIZE], entropy[_SALT_SIZE:]
    wrapping = _wrapping_key(key, cost, _BLOCKS, salt)
    wrapped = AESGCM(wrapping).encrypt(nonce, data_key, b"gavel lock" + identity)
    return LOCK.pack(key.kind, cost, _BLOCKS, salt, nonce, wrapped)


def open_lock(lock: bytes, key: Key | None, identity: bytes) -> bytes:
    """The data key; raises KeyNeeded, WrongKey, or Damaged for a lock of no known form."""
    if len(lock) != LOCK.size:
        raise Damaged("lock in the volume header", 0, f"{LOCK.size} bytes", len(lock))
    kind, cost, blocks, salt, nonce, wrapped = LOCK.unpack(lock)
    if kind not in _NAMES or cost > SCRYPT_COST_MAX or blocks != _BLOCKS or (kind == PASSPHRASE) > cost:
        raise Damaged("lock in the volume header", 0, "a known form", (kind, cost, blocks))
    if key is None:
        raise KeyNeeded(_NAMES[kind])
    if key.kind != kind:
        raise WrongKey(_NAMES[kind], _NAMES[key.kind])
    try:
        wrapping = _wrapping_key(key, cost, blocks, salt)
        return AESGCM(wrapping).decrypt(nonce, wrapped, b"gavel lock" + identity)
    except InvalidTag:
        raise WrongKey(_NAMES[kind], _NAMES[kind]) from None


def lock_kind(lock: bytes) -> str:
    """What opens a lock, in words; empty where there is none."""
    return _NAMES.get(lock[0], "") if lock else ""


def _wrapping_key(key: Key, cost: int, blocks: int, salt: bytes) -> bytes:
    if isinstance(key, KeyFile):
        return hmac.digest(key.key, b"gavel key file" + salt, "sha256")
    text = normalize("NFC", key.text).encode("utf-8", "surrogateescape")
    return Scrypt(salt, KEY_SIZE, 1 << cost, blocks, 1).derive(text)


class Cipher:
    """Seals and opens texts with a volume's data key. Opens at once, seals only after begin()."""

    def __init__(self, data_key: bytes) -> None:
        assert len(data_key) == KEY_SIZE
        self.data_key = data_key
        self._sessions: dict[bytes, AESGCM] = {}
        self._session = b""
        self._sealer: AESGCM | None = None
        self._counter = 0

    def begin(self, life: int, seed: bytes) -> None:
        """Seal under this life and seed from now on; the life must be durable, and no other opening may have it."""
        assert self._sealer is None and len(seed) == SEED_SIZE, "a session is begun once"
        self._session = SEAL_HEAD.pack(life & 0xFFFFFFFF, seed, 0)[:-8]
        self._sealer = self._of(self._session)

    def _of(self, session: bytes) -> AESGCM:
        known = self._sessions.get(session)
        if known is None:
            if len(self._sessions) >= _SESSIONS_MAX:
                self._sessions.clear()
            known = AESGCM(hmac.digest(self.data_key, b"gavel session" + session, "sha256"))
            self._sessions[session] = known
        return known

    def seal(self, magic: bytes, number: int, place: int, text: Buffer) -> bytes:
        """The sealed text, layout.SEAL_SIZE bytes longer, for the structure with this magic and number at `place`."""
        assert self._sealer is not None, "nothing is sealed before a life of one's own is durable"
        counter = self._counter.to_bytes(8, "little")
        self._counter += 1
        sealed = self._sealer.encrypt(bytes(4) + counter, text, _COVERED.pack(magic, number, place))
        return b"".join((self._session, counter, sealed))

    def open(self, what: str, magic: bytes, number: int, place: int, sealed: Buffer) -> bytes:
        """The text; raises Damaged, naming `what`, for anything that was not sealed for this very place."""
        head = SEAL_HEAD.size
        if len(sealed) >= SEAL_SIZE:
            with memoryview(sealed) as view:
                nonce = bytes(4) + bytes(view[head - 8 : head])
                try:
                    covered = _COVERED.pack(magic, number, place)
                    return self._of(bytes(view[: head - 8])).decrypt(nonce, view[head:], covered)
                except InvalidTag:
                    pass
        raise Damaged(what, place, "an intact seal", "another")


def open_cipher(lock: bytes, key: Key | None, identity: bytes) -> Cipher | None:
    """The cipher of a volume with this lock, None where there is none; raises as open_lock, BadRequest."""
    if lock:
        return Cipher(open_lock(lock, key, identity))
    if key is not None:
        raise BadRequest("the volume is not encrypted, so no key fits it; open it without one")
    return None


assert SEAL_HEAD.size + SEAL_TAG == SEAL_SIZE
