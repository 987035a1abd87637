"""What a client asks of a master, and what it is answered.

Two families. A client in the master's own process asks by function call, and refers to file data by where it lies in
the volume: Commit, Barrier, Checkpoint. Any other asks by these messages, which travel by function call and by wire
alike; what they say means the same on every master (portable.py says how records name file data). What a master raises
instead of an answer is a GavelError, on the wire in the form of wire/failures.py.

Invariants: messages are decoded by type and refused (BadRequest) when they are of no known form; fields are added at
the end, with defaults, so that two adjacent releases understand each other.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, NamedTuple

import msgspec

from gavel.errors import BadRequest, TooLarge
from gavel.keys.ranges import RangeSet
from gavel.limits import TRANSACTION_MAX

Read = tuple[bytes, bytes, int]  # [lo, hi) was read as of this tid


class Commit(NamedTuple):
    """Apply these writes at one new tid, unless something in `reads` changed after `freeze`.

    `keys` are sorted and unique; a value of None deletes. Answered with the tid (not durable before a Barrier asked
    afterwards is answered), or with Collision, DeviceFull, VolumeFull or TooLarge, when nothing of it was applied.
    """

    ticket: int
    keys: list[bytes]
    values: list[bytes | None]
    freeze: int = 0
    reads: RangeSet | None = None


class Barrier(NamedTuple):
    """Answered with the last tid once everything committed before is durable."""

    ticket: int


class Checkpoint(NamedTuple):
    """Write a checkpoint now; answered with the last tid when its header is durable.

    `clean`: the volume is about to be closed, and nothing will be committed any more.
    """

    ticket: int
    clean: bool = False


Request = Commit | Barrier | Checkpoint


class Message(msgspec.Struct, array_like=True, frozen=True):
    """What all messages have in common: they are MessagePack arrays that begin with their tag."""


# Questions.


class Stage(Message, tag=1, frozen=True, gc=False):
    """Keep file data for a transaction of this session that will refer to it by `number`; answered with Done.

    `data` by `codec` (media.extents) is `length` raw bytes, at most limits.EXTENT_MAX, whose XXH3-128 is `sum`.
    Durable not before a transaction that names it is. Asked again it changes nothing.
    """

    session: bytes
    number: int
    codec: int
    length: int
    sum: bytes
    data: bytes


_BLOB = Struct(">II16s")
BLOB_NAME_SIZE: Final = _BLOB.size


def blob_name(number: int, length: int, total: bytes) -> bytes:
    """How a transaction names what is staged for it: all that masters must agree about."""
    return _BLOB.pack(number, length, total)


def blob_number(name: bytes) -> int:
    """The number in a blob_name()."""
    return int.from_bytes(name[:4], "big")


_BLOB_HEAD = Struct(">BI16s")
_BLOB_ID = Struct(">16sQ")


def blob_id(session: bytes, number: int) -> bytes:
    """What the wire calls file data that goes ahead of a transaction: 24 bytes."""
    return _BLOB_ID.pack(session, number)


def to_blob(stage: Stage) -> bytes:
    """What travels under blob_id() in place of a Stage."""
    return _BLOB_HEAD.pack(stage.codec, stage.length, stage.sum) + stage.data


def from_blob(blob: bytes | memoryview, data: bytes | memoryview) -> Stage:
    """The Stage that travelled as this; raises BadRequest."""
    if len(blob) != _BLOB_ID.size or len(data) < _BLOB_HEAD.size:
        raise BadRequest(f"file data of {len(data)} bytes under a name of {len(blob)} is of no known form")
    codec, length, total = _BLOB_HEAD.unpack_from(data)
    session, number = _BLOB_ID.unpack(blob)
    return Stage(session, number, codec, length, total, bytes(data[_BLOB_HEAD.size :]))


class Submit(Message, tag=2, frozen=True, gc=False):
    """A transaction: applied at one tid unless something it read has changed since. Answered with an Outcome.

    (`born`, `session`, `sequence`, `coord`) name it: the same whenever and to whomever it is sent again, and it happens
    once. `born` is a recent `clock` of an answer, `coord` the node it is sent to first. `body` comes from `pack`;
    `blobs` are the blob_name()s of all that was staged for it, `spilled` the numbers of those that hold the body itself
    where that is longer than limits.BODY_INLINE_MAX. `tokens` are those of the leases it was made under: (node,
    incarnation, counter) of each master that granted all it writes; a master whose token is another one, or that is
    not named, does not vote for it. Empty: it was not made under leases. `fresh`: instead of Collided, Overtaken is
    welcome.
    """

    session: bytes
    sequence: int
    born: int
    coord: int
    reads: list[Read]
    blobs: list[bytes]
    body: bytes
    spilled: list[int] = []
    tokens: list[tuple[int, int, int]] = []
    fresh: bool = False


class Look(Message, tag=3, frozen=True, gc=False):
    """What has changed in these ranges since the tids given (0: nothing is known)?

    Answered with Looked, strictly current: of all that was acknowledged before this was asked nothing is missing.
    """

    ranges: list[Read]


class Fetch(Message, tag=4, frozen=True, gc=False):
    """The records of these ranges as of a tid that some answer named. Answered with Fetched."""

    ranges: list[tuple[bytes, bytes]]
    at: int


class Data(Message, tag=5, frozen=True, gc=False):
    """The file data that the data records with these keys refer to as of a tid. Answered with Found."""

    keys: list[bytes]
    at: int


class Status(Message, tag=6, frozen=True, gc=False):
    """How the master is; answered with Told. `leases`: what each session holds of it instead."""

    leases: bool = False


class Horizon(Message, tag=7, frozen=True, gc=False):
    """What of the past can be read? Answered with Reaches: strictly current, or as far as the master has come."""

    current: bool = True


class Trace(Message, tag=8, frozen=True, gc=False):
    """Every version of a key up to a tid. Answered with Traced."""

    key: bytes
    until: int


class Changes(Message, tag=9, frozen=True, gc=False):
    """What changed in (since, until] to keys in [lo, hi), by key, and for one key by tid. Answered with Changed.

    `skip`: how many changes of `lo` itself an answer before has told already.
    """

    since: int
    until: int
    lo: bytes
    hi: bytes
    skip: int = 0


Question = Stage | Submit | Look | Fetch | Data | Status | Horizon | Trace | Changes


# Answers.


class Done(Message, tag=32, frozen=True, gc=False):
    """It is as was asked."""


class Committed(Message, tag=33, frozen=True, gc=False):
    """The transaction is part of the state of this tid, and durable."""

    tid: int


class Collided(Message, tag=34, frozen=True, gc=False):
    """Something that was read as of `freeze` was changed by `tid`. Nothing was applied; run it again."""

    key: bytes
    tid: int
    freeze: int


class TooOld(Message, tag=35, frozen=True, gc=False):
    """It refers to a state of the past, `at`, that is not kept any more. Nothing was applied."""

    at: int
    horizon: int


class Refused(Message, tag=36, frozen=True, gc=False):
    """It makes no sense, whoever looks at it. Nothing was applied, and trying it again does not help."""

    why: str


class Dropped(Message, tag=37, frozen=True, gc=False):
    """It came too late, or nobody could say any more what it wanted. Nothing was applied; submit it as a new one."""


class Busy(Message, tag=47, frozen=True, gc=False):
    """Somebody else holds leases over what it reads or writes, and is asked for them. Submit it as a new one."""


class Fenced(Message, tag=48, frozen=True, gc=False):
    """The leases it was made under do not stand any more. Nothing was applied, and never will be."""


Outcome = Committed | Collided | TooOld | Refused | Dropped | Busy | Fenced


class Records(Message, tag=38, frozen=True, gc=False):
    """Records in key order. `end`: they are all up to here, more follow; None: they are all of the range."""

    keys: list[bytes]
    values: list[bytes]
    end: bytes | None = None


class Looked(Message, tag=39, frozen=True, gc=False):
    """For each range asked, in order: None where nothing has changed since, else its records; all as of `at`.

    A long answer ends early; what is missing, or follows a Records.end, can be fetched as of `at`.
    """

    at: int
    parts: list[Records | None]
    clock: int = 0


class Overtaken(Message, tag=49, frozen=True, gc=False):
    """It has collided, and here is what has changed of all that it had read, so that it can be run again at once.

    `now` is as a Look at these ranges would be answered, but for being strictly current.
    """

    outcome: Collided
    now: Looked


class Fetched(Message, tag=40, frozen=True, gc=False):
    """The records of the ranges asked, in order. A long answer ends early."""

    parts: list[Records]


class Found(Message, tag=41, frozen=True, gc=False):
    """For each key asked, in order: (codec, bytes); None where the record holds its bytes itself, or there is none.

    A long answer ends early.
    """

    extents: list[tuple[int, bytes] | None]


class Told(Message, tag=42, frozen=True, gc=False):
    """How the master is, by name."""

    fields: dict[str, Any]


class Reaches(Message, tag=44, frozen=True, gc=False):
    """Nothing is older than `created`; from `horizon` on every state can be read, before it those of `kept`."""

    created: int
    last: int
    horizon: int
    kept: list[int]


class Traced(Message, tag=45, frozen=True, gc=False):
    """The versions of a key, oldest first: true from the first tid on and until the second, None: still."""

    versions: list[tuple[int, int | None, bytes]]


class Changed(Message, tag=46, frozen=True, gc=False):
    """Changes: key, tid, value before, value after. A long answer ends early, and is asked for again from its end."""

    changes: list[tuple[bytes, int, bytes | None, bytes | None]]
    more: bool = False


# Tag 43 was that of errors, which are no answers: they travel as wire/failures.py has them. It is not to be used again.
Answer = Done | Outcome | Overtaken | Looked | Fetched | Found | Told | Reaches | Traced | Changed


class Asked(NamedTuple):
    """A question, and what the shell knows its asker by; the Reply has it back."""

    ticket: int
    question: Question


class Writes(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The body of a transaction: sorted unique keys with portable values; None deletes.

    `settled`: the outcomes of the session's transactions below this sequence have arrived and may be forgotten.
    """

    settled: int
    keys: list[bytes]
    values: list[bytes | None]


_encode = msgspec.msgpack.Encoder().encode
_decode_question = msgspec.msgpack.Decoder(Question).decode
_decode_answer = msgspec.msgpack.Decoder(Answer).decode
_decode_writes = msgspec.msgpack.Decoder(Writes).decode
encode = _encode  # of a Question or an Answer


def decode_question(data: bytes | memoryview) -> Question:
    """The question in these bytes; raises BadRequest."""
    try:
        found: Question = _decode_question(data)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"a request of no known form ({error}); is one side much newer than the other?") from None
    return found


def for_former(answer: Answer) -> Answer:
    """What a client of a release without leases is told: not Busy, which it does not know, but to try again."""
    return Dropped() if isinstance(answer, Busy | Fenced) else answer


def decode_answer(data: bytes | memoryview) -> Answer:
    """The answer in these bytes; raises BadRequest."""
    try:
        found: Answer = _decode_answer(data)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"an answer of no known form ({error}); is one side much newer than the other?") from None
    return found


def pack(writes: dict[bytes, bytes | None], settled: int = 0) -> bytes:
    """The body of a transaction with these writes; raises TooLarge beyond limits.TRANSACTION_MAX."""
    keys = sorted(writes)
    body = _encode(Writes(settled, keys, list(map(writes.__getitem__, keys))))
    if len(body) > TRANSACTION_MAX:
        raise TooLarge("a transaction", len(body), TRANSACTION_MAX)
    return body


def unpack(body: bytes | memoryview) -> Writes:
    """What a body says; raises BadRequest unless it is one, with ascending keys."""
    try:
        writes = _decode_writes(body)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"the body of a transaction is of no known form ({error})") from None
    keys = writes.keys
    if len(keys) != len(writes.values) or not all(map(bytes.__lt__, keys, keys[1:])):
        raise BadRequest("the body of a transaction does not have ascending keys with a value each")
    return writes
