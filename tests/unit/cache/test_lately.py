"""The same content written again is stored once, and only while nothing can free it."""

from gavel.filesystem import data, namespace
from gavel.filesystem.caller import Caller
from gavel.keys import records
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import BIG_BLOCK, EXTENT_MAX
from gavel.media.extents import Extent, decode
from gavel.transaction.transaction import Transaction
from tests.crash.simulated import System, fresh

WHO = Caller(0, 0)


def made(system: System, name: bytes, content: bytes) -> int:
    def make(tx: Transaction) -> int:
        obj, _ = namespace.create(tx, ROOT_OBJECT, name, 0o644, WHO)
        data.write(tx, obj, 0, content)
        return obj

    return system.engine.write(make)


def extents_of(system: System, obj: int) -> list[Extent | None]:
    return system.engine.read(lambda tx: [decode(value).extent for _, value in tx.scan(*records.extents(0, obj))])


def content(system: System, obj: int) -> bytes:
    return b"".join(map(bytes, system.engine.read(data.read, obj, 0, 1 << 24)))


A, B = b"a" * 5000, b"b" * 5000


def test_shared_within_a_flush_after_it_and_after_a_checkpoint() -> None:
    system = fresh()
    first = made(system, b"1", A)
    second = made(system, b"2", A)
    system.sync()
    third = made(system, b"3", A)
    system.checkpoint()
    fourth = made(system, b"4", A)
    assert len({tuple(extents_of(system, obj)) for obj in (first, second, third, fourth)}) == 1
    assert extents_of(system, made(system, b"5", B)) != extents_of(system, first)
    assert extents_of(system, made(system, b"6", A + b"x")) != extents_of(system, first)
    system.checkpoint()
    assert content(system, fourth) == A
    assert [problem for problem in system.engine.history.check(deep=True) if problem] == []


def test_what_was_staged_and_never_committed_is_forgotten_by_the_flush() -> None:
    system = fresh()
    obj = made(system, b"1", A)
    (dropped,) = extents_of(system, obj)
    system.engine.write(data.truncate, obj, 0)
    system.sync()
    (again,) = extents_of(system, made(system, b"2", A))
    assert dropped is not None and again is not None and again.place != dropped.place


def test_any_drop_of_a_version_forgets_what_was_committed() -> None:
    system = fresh()
    first = made(system, b"1", A)
    system.sync()
    (kept,) = extents_of(system, first)
    assert kept is not None
    system.engine.volume.add_live(kept.place, 1)
    system.engine.volume.drop_live(kept.place, 1)
    assert extents_of(system, made(system, b"2", A)) != [kept]


def test_what_cannot_be_read_is_stored_anew() -> None:
    system = fresh()
    first = made(system, b"1", A)
    system.checkpoint()
    (kept,) = extents_of(system, first)
    assert kept is not None
    system.device.rot(kept.place + 77)
    second = made(system, b"2", A)
    assert extents_of(system, second) != [kept] and content(system, second) == A


def test_optimistic_transactions_neither_share_nor_are_shared() -> None:
    system = fresh()
    first = made(system, b"1", A)
    system.sync()
    work = system.engine.begin()
    late = work.tx.stage(A)
    other = work.tx.stage(B)
    assert [late] != extents_of(system, first)
    assert [other] != extents_of(system, made(system, b"2", B))
    system.engine.give_up(work)


def test_a_borrowed_big_block_outlives_the_version_that_kept_it() -> None:
    """The one version that refers to an extent is dropped between sharing it and the flush."""
    system = fresh(size=20 * BIG_BLOCK)
    volume = system.engine.volume
    first = made(system, b"1", A)
    system.sync()
    (kept,) = extents_of(system, first)
    assert kept is not None
    block = kept.place // BIG_BLOCK
    for n in range(BIG_BLOCK // EXTENT_MAX + 8):  # the log goes on in another big-block; nobody refers to these
        volume.append_data(b"%4d" % n * (EXTENT_MAX // 4))
    system.checkpoint()
    system.engine.write(lambda tx: tx.put(b"\0\0\0other", b"1"))
    system.checkpoint()
    assert volume._log.block != block
    kinds = volume._map.kinds
    live = volume._map.live[block]
    second = made(system, b"2", A)  # dirty, and shares
    assert extents_of(system, second) == [kept]
    volume.drop_live(kept.place, live)  # what a prune would do
    held = system.engine.cache.current.dirty
    taken, system.engine.cache.current.dirty = held, type(held)()  # so that the checkpoints flush nothing
    system.checkpoint()
    system.checkpoint()
    assert kinds[block] != 0, "freed under a dirty record"
    volume.add_live(kept.place, live)
    system.engine.cache.current.dirty = taken
    system.sync()
    system.checkpoint()
    assert content(system, second) == A and kinds[block] != 0
