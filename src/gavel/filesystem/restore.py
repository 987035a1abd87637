"""Carrying out an undo: its plan as slices, each to be run as one transaction on the present.

Invariants:
- after every slice the filesystem is sound (check.py finds nothing), whatever else happens in between;
- a file whose restoration fits into one slice comes back at once and whole; a larger one can be seen growing;
- a slice is pure: it may be run again where it raised Miss. What others did since the plan was made is left alone
  where it is not in the way; where it is, BadRequest says so, and the undo is to be planned again;
- between slices nothing is held that says where file data lies: a slice has the keys of the data records it brings
  back, and reads their values when it runs. What a prune took away meanwhile is HistoryPruned then, and what a reblock
  or dedup moved is found where it is now (docs/internals/trees.md, "Who may refer to an extent").

What stands where a name has to go, and is itself still to be moved, waits as `.undo-` and its object id.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

import msgspec

from gavel.errors import BadRequest
from gavel.filesystem import extent_map, namespace, orphans
from gavel.filesystem import inode as inodes
from gavel.filesystem.directory import pack_entry
from gavel.filesystem.inode import Inode
from gavel.filesystem.past import Name, Past, Places, as_of, net, shown_alike
from gavel.filesystem.undo import Action, Plan
from gavel.keys import records
from gavel.limits import SLICE_RECORDS
from gavel.media import extents
from gavel.transaction.transaction import Transaction

T = TypeVar("T")
_Operation = Callable[[Transaction], None]
_PIECES = SLICE_RECORDS // 2  # data records of one operation
_NAME_COST = 8  # records that giving or taking a name may write


class Slice:
    """Some of the work of an undo: call it with a transaction. `actions` of the plan are done when it is committed."""

    __slots__ = ("_operations", "actions")

    def __init__(self, operations: list[_Operation], actions: int) -> None:
        self._operations, self.actions = operations, actions

    def __call__(self, tx: Transaction) -> None:
        """Do it. Raises BadRequest where somebody has made it impossible since the plan was made."""
        for operation in self._operations:
            operation(tx)


def slices(past: Past, plan: Plan) -> Iterator[Slice]:
    """The slices of a plan, to be run in order, each as a transaction of its own.

    Each writes some SLICE_RECORDS records. Stopping between two leaves part of the tree restored; planning again
    does the rest.
    """
    work = _Work(past, plan)
    waiting: list[tuple[int, _Operation]] = []
    whole = done = 0  # so many of them belong to finished actions; so many actions those are
    for action in plan.actions:
        for price, operation in work.operations(action):
            if waiting and sum(cost for cost, _ in waiting) + price > SLICE_RECORDS:
                cut = whole or len(waiting)
                yield Slice([ready for _, ready in waiting[:cut]], done)
                del waiting[:cut]
                whole = done = 0
            waiting.append((price, operation))
        whole = len(waiting)
        done += 1
    if done:
        yield Slice([ready for _, ready in waiting], done)


class _Work:
    """Turns actions into operations on a transaction, each with what it costs in records."""

    def __init__(self, past: Past, plan: Plan) -> None:
        self.past, self.plan, self.pfs = past, plan, plan.pfs
        self.before = Places(as_of(past, plan.to, plan.pfs))
        self.after = Places(as_of(past, plan.upto, plan.pfs))
        self.back: set[int] = set()  # objects that were gone and have got a name again

    def operations(self, action: Action) -> Iterator[tuple[int, _Operation]]:
        """What an action consists of, in order."""
        obj = action.object
        if action.kind == "remove":
            yield _NAME_COST, partial(_take, action)
            return
        then = self.before.inode(obj)
        assert then is not None
        gone = action.kind == "restore" and obj not in self.back and self.after.inode(obj) is None
        if action.kind != "change":
            yield _NAME_COST, partial(_give, action, then if gone else None)
        if gone:
            self.back.add(obj)
        if gone or action.kind == "change":
            if then.is_file:
                yield from self._data(obj, gone)
            values = list(self.before.tx.scan(*records.xattrs(self.pfs, obj))) if then.xattrs else []
            yield 2 + len(values), partial(_attributes, obj, then, values)

    def _data(self, obj: int, gone: bool) -> Iterator[tuple[int, _Operation]]:
        """First what is not to be there goes, then what is comes: so no two records ever overlap."""
        within = records.extents(self.pfs, obj)
        plan = self.plan
        for keys in _grouped(self._surplus(obj, gone), _PIECES):
            yield len(keys) + 1, partial(_drop_data, obj, keys)
        if gone:
            coming = (key for key, _ in self.before.tx.scan(*within))
        else:
            changed = net(self.past, plan.to, plan.upto, within)
            coming = (key for key, old, _ in changed if old is not None)
        for group in _grouped(coming, _PIECES):
            yield len(group) + 1, partial(_put_data, self.before.tx, obj, group)

    def _surplus(self, obj: int, gone: bool) -> Iterator[tuple[bytes, bytes | None]]:
        """The data records that are there and were not; of an object that is about to be reaped, all that may be."""
        within = records.extents(self.pfs, obj)
        if gone:
            return ((key, None) for key, _ in self.after.tx.scan(*within))
        changed = net(self.past, self.plan.to, self.plan.upto, within)
        return ((key, new) for key, _, new in changed if new is not None)


def _grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(items)
    while group := list(islice(source, size)):
        yield group


def _meanwhile(path: str) -> BadRequest:
    return BadRequest(f"{path} was changed by somebody while the undo was under way; run it again for the rest")


# -- names -----------------------------------------------------------------------------------------------------


def _give(action: Action, then: Inode | None, tx: Transaction) -> None:
    """Let an object have a name; `then` is its inode of old where it may be gone."""
    target, obj = action.target, action.object
    assert target is not None
    here = Places(tx)
    holder = here.holds(target)
    if holder == obj:
        return
    home = here.inode(target.directory)
    if home is None or not home.is_dir:
        raise _meanwhile(action.path)
    if holder:
        _clear_name(tx, here, target, holder, action.replaces)
    now = here.inode(obj)
    if now is not None:
        source = _where(here, action, now)
        try:
            if source is None:
                namespace.link(tx, obj, *target)
            else:
                namespace.rename(tx, *source, *target, namespace.NOREPLACE)
        except OSError as error:
            raise _meanwhile(action.path) from error
    elif then is not None:
        _revive(tx, obj, then, target)
    else:
        raise _meanwhile(action.path)


def _clear_name(tx: Transaction, here: Places, name: Name, holder: int, replaces: int) -> None:
    inode = here.inode(holder)
    if holder == replaces and inode is not None and not inode.is_dir:
        namespace.unlink(tx, *name)
    else:
        namespace.rename(tx, *name, name.directory, _waiting(holder))


def _waiting(obj: int) -> bytes:
    return b".undo-%d" % obj


def _where(here: Places, action: Action, now: Inode) -> Name | None:
    """The name that is to be moved: the one planned, or where it waits; a directory's only one."""
    obj, source = action.object, action.source
    if now.is_dir:
        return here.name(obj, now)
    if source is None:
        return None
    waiting = Name(source.directory, _waiting(obj))
    return next((name for name in (source, waiting) if here.holds(name) == obj), None)


def _revive(tx: Transaction, obj: int, then: Inode, target: Name) -> None:
    """Give an object that is gone, or about to be reaped, a name again. Its data and attributes are to follow."""
    kept = tx.get(records.inode(tx.pfs, obj))
    held = None if kept is None else inodes.decode(kept)
    size, used, xattrs = (0, 0, 0) if held is None else (held.size, held.used, held.xattrs)
    key = records.entry(tx.pfs, *target)
    inode = msgspec.structs.replace(then, nlink=0, size=size, used=used, xattrs=xattrs)
    if not then.is_file:
        inode.size = 0 if then.is_dir else then.size
    tx.put(key, pack_entry(obj, then.mode >> 12))
    home = inodes.read(tx, target.directory)
    home.size += 1
    home.nlink += then.is_dir
    home.mtime = home.ctime = tx.now
    inodes.write(tx, target.directory, home)
    orphans.gain_name(tx, obj, inode, target.directory, records.entry_cookie(key))
    if then.is_dir:
        inode.nlink, inode.generation = 2, tx.now
        inodes.write(tx, obj, inode)


def _take(action: Action, tx: Transaction) -> None:
    """Take a name away, wherever it waits; what somebody has put into a directory since keeps it alive."""
    obj, planned = action.object, action.target
    assert planned is not None
    here = Places(tx)
    for name in (planned, Name(planned.directory, _waiting(obj))):
        if here.holds(name) != obj:
            continue
        try:
            (namespace.rmdir if action.is_dir else namespace.unlink)(tx, *name)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        return


# -- content ---------------------------------------------------------------------------------------------------


def _drop_data(obj: int, keys: list[tuple[bytes, bytes | None]], tx: Transaction) -> None:
    """Delete data records, those with a value only if they still have it."""
    file = _present(tx, obj)
    for key, value in keys:
        found = tx.get(key)
        if found is not None and (value is None or shown_alike(found, value)):
            tx.delete(key)
            file.used -= extents.view_size(found)
    inodes.write(tx, obj, file)


def _put_data(then: Transaction, obj: int, keys: list[bytes], tx: Transaction) -> None:
    """Put the data records that were there `then` back in place of whatever is there. Raises HistoryPruned."""
    file = _present(tx, obj)
    for key in keys:
        value = then.get(key)
        assert value is not None, "what was at a tid does not change"
        extent = extents.decode(value).extent
        if extent is not None:
            tx.share(extent)
        end, size = records.extent_end(key), extents.view_size(value)
        file.used += size - extent_map.clear(tx, obj, end - size, end)
        file.size = max(file.size, end)
        tx.put(key, value)
    inodes.write(tx, obj, file)


def _attributes(obj: int, then: Inode, values: list[tuple[bytes, bytes]], tx: Transaction) -> None:
    """Give an object the attributes it had, the names and what is counted from other records aside."""
    now = _present(tx, obj)
    wanted = dict(values)
    if now.xattrs:
        for key, _ in list(tx.scan(*records.xattrs(tx.pfs, obj))):
            if key not in wanted:
                tx.delete(key)
    for key, value in values:
        tx.put(key, value)
    used, size = now.used, now.size if now.is_dir else then.size
    if now.is_file and now.size > size:
        used -= extent_map.clear(tx, obj, size, now.size)
    inode = msgspec.structs.replace(
        then,
        nlink=now.nlink,
        parent=now.parent,
        name_hash=now.name_hash,
        generation=now.generation,
        size=size,
        used=used,
        ctime=tx.now,
    )
    inodes.write(tx, obj, inode)


def _present(tx: Transaction, obj: int) -> Inode:
    value = tx.get(records.inode(tx.pfs, obj))
    if value is None:
        raise _meanwhile(f"object {obj}")
    return inodes.decode(value)
