"""Typed errors. Each carries its evidence as fields and says in one sentence what to do.

POSIX errors are not here: the filesystem room raises OSError with an errno, and only it and the mount know errnos.
`retry` tells whether doing the same again may help.
"""

from __future__ import annotations

from collections.abc import Sequence


class GavelError(Exception):
    """What GavelFS raises of its own; `str()` of it is one sentence for a person."""

    retry = False

    @property
    def fact(self) -> str:
        """What is wrong, without the advice that goes with it: for a row among others of its kind."""
        return str(self)


class Damaged(GavelError):
    """Bytes from a medium that do not verify."""

    def __init__(self, what: str, offset: int, expected: object = None, found: object = None) -> None:
        self.what, self.offset, self.expected, self.found = what, offset, expected, found
        super().__init__(
            f"{self.fact}; `gavel check --deep` shows all there is, "
            "and `gavel recover` saves what is left of a volume that does not open"
        )

    @property
    def fact(self) -> str:
        """See GavelError."""
        detail = "" if self.expected is None else f" (expected {self.expected}, found {self.found})"
        return f"{self.what} at byte {self.offset} is damaged{detail}"


class Unwritable(Damaged):
    """What was changed cannot be committed, as a tree node in its way does not verify; nothing of it was taken."""

    def __init__(self, cause: Damaged) -> None:
        super().__init__(cause.what, cause.offset, cause.expected, cause.found)
        self.cause = cause
        self.args = (
            f"{cause.what} at byte {cause.offset} is damaged, so nothing can be written any more; what was changed"
            " since the last sync can still be read: copy it elsewhere, unmount, and run `gavel check --deep`",
        )


class NotAVolume(GavelError):
    """The file or device holds no GavelFS volume."""

    def __init__(self, path: str, found: str = "") -> None:
        self.path, self.found = path, found
        holds = f" (it holds {found})" if found else ""
        super().__init__(
            f"{path} is not a GavelFS volume{holds}; check the path, make one with `gavel mkfs`, "
            "or look with `gavel recover` for what is left if it was one"
        )


class NewerFormat(GavelError):
    """The volume was written by a later release."""

    def __init__(self, version: int, known: int) -> None:
        self.version, self.known = version, known
        super().__init__(
            f"the volume has format {version}, this gavel knows formats up to {known}; install a newer gavel"
        )


class KeyNeeded(GavelError):
    """The volume is encrypted, and no key was given. Nothing of it can be seen without."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        how = "type it on a terminal, or set GAVEL_PASSPHRASE"
        if kind != "passphrase":
            how = "name it by --key-file, or in GAVEL_KEY_FILE"
        super().__init__(f"the volume is encrypted; give the {kind} that opens it: {how} (in Python: `key`)")


class WrongKey(GavelError):
    """The key does not open the volume."""

    def __init__(self, kind: str, given: str) -> None:
        self.kind, self.given = kind, given
        asked = f"it wants a {kind}" if kind != given else "check it"
        super().__init__(f"this {given} does not open the volume; {asked}")


class MemberMissing(GavelError):
    """A file or device that is part of the volume is not where it was, or another one is there."""

    retry = True

    def __init__(self, identity: bytes, path: str, why: str) -> None:
        self.identity, self.path, self.why = identity, path, why
        super().__init__(
            f"member {identity.hex()} of the volume is not at {path} ({why}); attach it there, "
            "or put it beside the volume's first file"
        )


class VolumeBusy(GavelError):
    """Another process has the volume open."""

    retry = True

    def __init__(self, path: str, pid: int | None, command: str = "") -> None:
        self.path, self.pid, self.command = path, pid, command
        who = f"process {pid}" if pid else "another process"
        named = f" ({command})" if command else ""
        super().__init__(f"{path} is in use by {who}{named}; unmount it there, or work on its mount")


class VolumeFull(GavelError):
    """No free big-block is left beyond the reserve."""

    retry = True

    def __init__(self, free: int, wanted: int) -> None:
        self.free, self.wanted = free, wanted
        super().__init__(f"the volume is full ({free} bytes free, {wanted} wanted); delete files and prune history")


class DeviceFull(GavelError):
    """The storage under the volume has no room left (a sparse file on a full disk)."""

    retry = True

    def __init__(self, offset: int, length: int) -> None:
        self.offset, self.length = offset, length
        super().__init__(
            f"the disk under the volume is full (writing {length} bytes at {offset}); free space there, nothing is lost"
        )


class DeviceFailed(GavelError):
    """The device answered with an error. After a failed write or sync the volume takes no more writes."""

    def __init__(self, action: str, offset: int, reason: str) -> None:
        self.action, self.offset, self.reason = action, offset, reason
        super().__init__(f"{self.fact}; check the disk, then mount again")

    @property
    def fact(self) -> str:
        """See GavelError."""
        return f"the device failed to {self.action} at byte {self.offset}: {self.reason}"


class ReadOnly(GavelError):
    """A write to something that takes none: a read-only mount, an as-of view."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"read-only: {why}")


class BadWhen(GavelError):
    """A WHEN that cannot be understood, lies in the future or before the beginning."""

    def __init__(self, when: str, why: str) -> None:
        self.when, self.why = when, why
        super().__init__(f"{when!r} {why}")


class HistoryPruned(GavelError):
    """As-of access below the prune horizon, to a state that is not kept; `nearest` are the tids next to it that are."""

    def __init__(self, at: int, horizon: int, nearest: Sequence[int] = ()) -> None:
        self.at, self.horizon, self.nearest = at, horizon, tuple(nearest)
        near = " and ".join(f"0x{tid:016x}" for tid in nearest)
        super().__init__(
            f"history before 0x{horizon:016x} has been pruned, 0x{at:016x} is older; "
            + (f"next to it {near} can be read" if near else "`gavel snapshot list` shows what is left")
        )


class Collision(GavelError):
    """A transaction read something that another one changed before it could commit. Nothing of it was applied."""

    retry = True

    def __init__(self, key: bytes, tid: int, freeze: int, paths: Sequence[str] = ()) -> None:
        self.key, self.tid, self.freeze, self.paths = key, tid, freeze, tuple(paths)
        where = ", ".join(self.paths) or key.hex()
        super().__init__(f"{where} was changed by 0x{tid:016x} since 0x{freeze:016x}; run the transaction again")


class FreezePruned(Collision):
    """A collision with a prune: the state that a transaction began with is not kept any more. `tid` is the horizon."""

    def __init__(self, key: bytes, horizon: int, freeze: int) -> None:
        super().__init__(key, horizon, freeze)
        self.horizon = horizon
        self.args = (
            f"history before 0x{horizon:016x} was pruned while a transaction worked on the state of 0x{freeze:016x}; "
            "run the transaction again",
        )


class TooLarge(GavelError):
    """A transaction beyond its bound."""

    def __init__(self, what: str, size: int, bound: int) -> None:
        self.what, self.size, self.bound = what, size, bound
        super().__init__(f"{what} of {size} is over the bound of {bound}; split it")


class QuorumLost(GavelError):
    """No majority answered in time. What was asked may still happen: ask again with the same txid."""

    retry = True

    def __init__(self, waited_ms: int, missing: Sequence[int] = ()) -> None:
        self.waited_ms, self.missing = waited_ms, tuple(missing)
        who = f"; no answer from master {', '.join(map(str, self.missing))}" if self.missing else ""
        super().__init__(
            f"no majority of the masters answered within {waited_ms} ms{who}; it may still happen, ask again"
        )


class LostWork(GavelError):
    """What was changed under leases, and answered for, could not be committed before others changed the same."""

    def __init__(self, why: str, saved: str = "") -> None:
        self.why, self.saved = why, saved
        where = f"it is saved in {saved}, look with `gavel lost`" if saved else "it is lost"
        super().__init__(f"what was changed here last is no part of the filesystem: {why}; {where}")


class NotAMember(GavelError):
    """The node asked is not one that can answer: it does not vote, keeps no data, or is being stopped."""

    retry = True

    def __init__(self, node: int, why: str) -> None:
        self.node, self.why = node, why
        super().__init__(f"node {node} cannot answer that ({why}); ask another master")


class Superseded(GavelError):
    """Another change of the members came first."""

    retry = True

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"another change of the members started epoch {epoch}; look at `gavel status`, then ask again")


class Forgotten(GavelError):
    """How a transaction ended is not remembered any more."""

    def __init__(self, born: int) -> None:
        self.born = born
        super().__init__(
            f"how the transaction born at 0x{born:016x} ended is no longer remembered; look at what it wrote"
        )


class BadRequest(GavelError):
    """A request that makes no sense as asked; the message says what to ask instead."""


class BadPeer(GavelError):
    """The other side of a connection sent what it must not send; the connection is closed."""

    retry = True

    def __init__(self, what: str, expected: object = None, found: object = None) -> None:
        self.what, self.expected, self.found = what, expected, found
        detail = "" if expected is None and found is None else f" (expected {expected}, found {found})"
        super().__init__(
            f"the other side of a connection broke the protocol: {what}{detail}; use the same release on both sides, "
            "and look at the network between them"
        )


class NoCommonVersion(GavelError):
    """Two releases that are too far apart to talk to each other."""

    def __init__(self, ours: Sequence[int], theirs: Sequence[int]) -> None:
        self.ours, self.theirs = tuple(ours), tuple(theirs)
        super().__init__(
            f"this gavel speaks wire versions {self.ours[0]} to {self.ours[1]}, the other side {self.theirs[0]} to "
            f"{self.theirs[1]}; upgrade one release at a time"
        )


class Unreachable(GavelError):
    """Another node cannot be reached, or is not any more."""

    retry = True

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where} cannot be reached: {reason}; look whether it runs, and at the network between")


class Untrusted(GavelError):
    """The other side of a connection could not prove who it is, or does not believe this side."""

    def __init__(self, who: str, why: str) -> None:
        self.who, self.why = who, why
        advice = "" if "join" in why else "; both must have joined the same cluster"
        super().__init__(f"no trust between this node and {who}: {why}{advice}")


class BadToken(GavelError):
    """A token for joining a cluster that cannot be used."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"this token {why}; ask for a new one: `gavel cluster invite DIR --role ROLE` on a master")


class WrongCluster(GavelError):
    """The other side belongs to another cluster."""

    def __init__(self, ours: bytes, theirs: bytes) -> None:
        self.ours, self.theirs = ours, theirs
        super().__init__(f"the other side belongs to cluster {theirs.hex()}, not to {ours.hex()}; check the address")


class DoubleIdentity(GavelError):
    """Two processes say that they are the same node."""

    def __init__(self, node: int, ours: bytes, theirs: bytes) -> None:
        self.node, self.ours, self.theirs = node, ours, theirs
        super().__init__(
            f"two processes say that they are node {node} of the cluster; stop one of them, "
            "and let what was copied join under an identity of its own"
        )
