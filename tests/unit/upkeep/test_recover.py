"""Recovery from what is left: whole files are identical, and everything that is still reachable comes back."""

from collections.abc import Callable
from random import Random

import pytest

from gavel.filesystem import compression, data, namespace
from gavel.history import roots as history_roots
from gavel.keys.records import ROOT_OBJECT
from gavel.limits import BIG_BLOCK, VOLUME_MIN
from gavel.media import layout
from gavel.replica import journal
from gavel.sim.device import SimDevice
from gavel.transaction.transaction import Transaction
from gavel.upkeep.layers import Layers, is_past
from gavel.upkeep.recover import Salvage
from gavel.upkeep.remains import Remains, find_salt
from tests.crash.simulated import WHO, State, System, fresh, lookup, random_operation, state

Contents = dict[str, bytes]


def grown(seed: int, files: int = 60) -> System:
    """A volume with directories, overwritten, renamed and removed files, over several checkpoints."""
    random = Random(seed)
    system = fresh(seed)
    system.engine.write(compression.set_compression, ROOT_OBJECT, "on")
    for d in range(4):
        system.engine.write(namespace.mkdir, ROOT_OBJECT, b"d%d" % d, 0o755, WHO)
    for n in range(files):
        parent = system.engine.read(lookup, ROOT_OBJECT, b"d%d" % random.randrange(4))

        def make(tx: Transaction, parent: int = parent, n: int = n) -> None:
            obj, _ = namespace.create(tx, parent, b"f%d" % n, 0o644, WHO)
            data.write(tx, obj, 0, random.randbytes(random.choice([0, 100, 3000])) + b"%d " % n * 3000)

        system.engine.write(make)
        for _ in range(3):
            try:
                random_operation(random)(system.engine)
            except OSError:
                continue
        if n % 10 == 0:
            system.sync()
        if n % 16 == 5:
            system.checkpoint()
    system.sync()
    return system


def regular(found: State) -> Contents:
    return {path: seen[5] for path, seen in found.items() if seen[1] & 0o170000 == 0o100000}  # type: ignore[operator,misc]


def salvaged(device: SimDevice, salt: int | None = None, roots: tuple[int, int] = (0, 0)) -> Salvage:
    salt = find_salt(device) if salt is None else salt
    assert salt is not None
    remains = Remains(device, salt)
    for _ in remains.scan():
        pass
    salvage = Salvage(remains, Layers(remains, roots), journal.decode)
    for _ in salvage.gather():
        pass
    return salvage


def contents(salvage: Salvage) -> tuple[Contents, Contents]:
    """Files that are whole, and those that are not."""
    whole: Contents = {}
    partial: Contents = {}
    held = dict(salvage.files())
    for obj, inode in salvage.inodes.items():
        if not inode.is_file:
            continue
        content = bytearray(inode.size)
        got, sound = 0, not salvage.outdated(obj)
        for piece in salvage.pieces(held.get(obj, [])):
            if piece.data is None:
                sound = False
            else:
                content[piece.start : piece.start + piece.size] = piece.data
                got += piece.size
        for path in salvage.paths(obj):
            place = "/" + b"/".join(path).decode()
            (whole if sound and got == inode.used else partial)[place] = bytes(content)
    return whole, partial


def wipe_headers(device: SimDevice) -> None:
    for slot in range(layout.SLOTS):
        device.write(layout.slot_offset(slot), [bytes(layout.SLOT_SIZE)])


def wipe_map(system: System) -> None:
    kinds = system.engine.volume._map.kinds
    for block, kind in enumerate(kinds):
        if kind == layout.MAP:
            system.device.write(block * BIG_BLOCK, [bytes(1 << 20)])


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_without_headers_and_map_everything_comes_back(seed: int, checkpoint: bool) -> None:
    system = grown(seed)
    if checkpoint:
        system.checkpoint()
    expected = regular(state(system.engine))
    salt = system.engine.volume._header.salt
    wipe_headers(system.device)
    wipe_map(system)
    assert find_salt(system.device) == salt
    salvage = salvaged(system.device)
    assert salvage.certain
    assert contents(salvage) == (expected, {})


def test_what_was_removed_stays_removed_and_its_states_are_history() -> None:
    system = fresh()

    def write(content: bytes) -> Callable[[Transaction], None]:
        return lambda tx: void(data.write(tx, lookup(tx, ROOT_OBJECT, b"f"), 0, content))

    obj, _ = system.engine.write(namespace.create, ROOT_OBJECT, b"f", 0o644, WHO)
    tids = []
    for content in (b"a" * 5000, b"b" * 5000, b"c" * 5000):
        system.engine.write(write(content))
        tids.append(system.sync())
        system.checkpoint()
    system.engine.write(namespace.unlink, ROOT_OBJECT, b"f")
    system.sync()
    wipe_headers(system.device)
    salvage = salvaged(system.device)
    assert contents(salvage) == ({}, {})
    ((found, states),) = salvage.states()
    assert found == obj and salvage.last_path(obj) == (b"f",)
    told = [b"".join(bytes(piece.data or b"") for piece in salvage.pieces(one.records)) for one in states]
    assert [told[[one.tid for one in states].index(tid)] for tid in tids] == [b"a" * 5000, b"b" * 5000, b"c" * 5000]


def void(_: object) -> None:
    return None


@pytest.mark.parametrize("seed", range(4))
def test_whatever_nodes_rot_whole_files_are_right(seed: int) -> None:
    """Every file that is called whole is as it was; with few nodes lost, most files are whole."""
    random = Random(seed)
    system = grown(seed, 10)
    for n in range(900):

        def make(tx: Transaction, n: int = n) -> None:
            obj, _ = namespace.create(tx, ROOT_OBJECT, b"x%d" % n, 0o644, WHO)
            data.write(tx, obj, 0, random.randbytes(300))

        system.engine.write(make)
        if n % 200 == 100:
            system.checkpoint()
    system.checkpoint(clean=True)
    expected = regular(state(system.engine))
    roots = history_roots.decode(system.engine.volume.roots)
    leaves = sorted({piece.address for piece in salvaged(system.device)._layers.current})
    for address in random.sample(leaves, 2):
        system.device.rot(layout.node_extent(address)[0] + 50)
    salvage = salvaged(system.device, roots=(roots.current.address, roots.past.address))
    whole, _ = contents(salvage)
    assert salvage._layers.lost and len(whole) > len(expected) // 2
    assert {path: content for path, content in whole.items() if expected.get(path) != content} == {}


def test_a_rotten_root_costs_nothing() -> None:
    system = grown(5, 100)
    system.checkpoint(clean=True)
    expected = regular(state(system.engine))
    roots = history_roots.decode(system.engine.volume.roots)
    assert roots.current.level > 0
    system.device.rot(layout.node_extent(roots.current.address)[0] + 50)
    system.device.rot(layout.node_extent(roots.past.address)[0] + 50)
    wipe_headers(system.device)
    whole, partial = contents(salvaged(system.device))
    assert {**whole, **partial} == expected


@pytest.mark.parametrize("seed", [1, 2])
def test_rot_in_file_data_costs_that_extent_only(seed: int) -> None:
    system = grown(seed)
    system.checkpoint()
    expected = regular(state(system.engine))
    wipe_headers(system.device)
    salvage = salvaged(system.device)
    obj, found = next((obj, found) for obj, found in salvage.files() if salvage.paths(obj) and found[0][1][0])
    place = int.from_bytes(found[0][1][1:9], "little")
    system.device.rot(place + 3)
    whole, partial = contents(salvaged(system.device))
    assert set(whole) | set(partial) == set(expected) and partial
    assert all(expected[path] == content for path, content in whole.items())
    assert {"/" + b"/".join(path).decode() for path in salvage.paths(obj)} <= set(partial)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_half_a_volume_gives_what_lies_in_it(checkpoints: bool) -> None:
    system = fresh(size=VOLUME_MIN + 20 * BIG_BLOCK)
    random = Random(4)
    texts = {f"/f{n}": random.randbytes(1 << 20) for n in range(60)}
    for n, (path, text) in enumerate(texts.items()):

        def make(tx: Transaction, name: bytes = path[1:].encode(), text: bytes = text) -> None:
            obj, _ = namespace.create(tx, ROOT_OBJECT, name, 0o644, WHO)
            data.write(tx, obj, 0, text)

        system.engine.write(make)
        system.sync()
        if checkpoints and n % 10 == 0:
            system.checkpoint()
    system.checkpoint()
    cut = 6 * BIG_BLOCK + 512 * 100
    half = SimDevice(cut, 0)
    for at in range(0, cut, BIG_BLOCK):
        half.write(at, [system.device.read(at, min(BIG_BLOCK, cut - at))])
    whole, partial = contents(salvaged(half))
    assert all(texts[path] == content for path, content in whole.items())
    assert len(whole) >= 20  # three or four big-blocks of file data are in that half
    assert len(partial) <= 2 or checkpoints


def test_a_volume_that_lies_in_a_file_is_not_taken_for_this_one() -> None:
    inner = grown(9, 10)
    inner.checkpoint()
    image = inner.device.read(BIG_BLOCK, 1 << 20)
    system = grown(1, 10)

    def make(tx: Transaction) -> None:
        obj, _ = namespace.create(tx, ROOT_OBJECT, b"image", 0o644, WHO)
        data.write(tx, obj, 0, image)

    system.engine.write(make)
    system.checkpoint()
    expected = regular(state(system.engine))
    wipe_headers(system.device)
    assert contents(salvaged(system.device)) == (expected, {})


@pytest.mark.parametrize("seed", range(6))
def test_rot_everywhere_raises_nothing_and_makes_nothing_up(seed: int) -> None:
    random = Random(seed)
    system = grown(seed, 20)
    system.checkpoint()
    states = [regular(state(system.engine))]
    used = [block for block, kind in enumerate(system.engine.volume._map.kinds) if kind]
    for _ in range(random.choice([5, 50, 500])):
        system.device.rot(random.choice(used) * BIG_BLOCK + int(2 ** random.uniform(0, 20)))
    wipe_headers(system.device)
    salvage = salvaged(system.device, salt=system.engine.volume._header.salt)
    whole, _ = contents(salvage)
    list(salvage.states())
    if salvage.certain:
        assert all(states[0].get(path) == content for path, content in whole.items())


def test_a_node_that_leads_to_itself_ends_no_walk() -> None:
    from gavel.btree.node import Node, encode

    system = grown(1, 10)
    system.checkpoint()
    expected = regular(state(system.engine))
    block = system.engine.volume._nodes.block
    offset = block * BIG_BLOCK + (1 << 20)
    own = Node(3)
    own.address = layout.node_address(offset, 128)
    payload = encode(Node(3).fill([b"k"], [1, 1], [own, own], 0))
    salt = system.engine.volume._header.salt
    sealed = layout.seal(layout.NODE_MAGIC, len(payload), salt ^ offset, 1000, payload)
    system.device.write(offset, [sealed.ljust(128, b"\0")])
    wipe_headers(system.device)
    whole, partial = contents(salvaged(system.device))
    assert {**whole, **partial} == expected


def test_keys_of_closed_versions_are_told_from_keys_of_records() -> None:
    from gavel.keys import records

    keys = [
        records.inode(0, 7), records.entry(0, 1, b"name"), records.xattr(0, 3, b"user.x"), records.extent(0, 9, 4096),
        records.orphan(0, 4), records.counter(0, b"objects"), records.snapshot(0, b"s"), records.config(0, b"c"),
    ]  # fmt: skip
    for key in keys:
        assert not is_past(key)
        for tid in (bytes(8), b"\0\0\0\0\0\0\0\1", b"\1\2\3\4\5\6\7\0", b"\xff" * 8):
            assert is_past(key + tid)
