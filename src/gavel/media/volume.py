"""One volume on one device: the log of what was promised, tree nodes, the map of big-blocks, and its checkpoints.

Invariants (docs/internals/volume-format.md argues why they survive a crash at any write):

- what the newest durable header reaches (map, nodes, and the log from its MARK on) is never overwritten;
- a big-block becomes FREE only when it is dead both in the durable image and in the live map, holds no frame that
  replay would need, and no data frame that may still be referred to (settle());
- nothing here promises durability but a device sync, which is the driver's: the volume itself syncs only in format()
  and at the end of replay().

Order of use: open, exhaust replay(), then everything else. A checkpoint is freeze, saves and frees of nodes, finish,
SYNC, publish, SYNC, retire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gavel.errors import BadRequest, Damaged, DeviceFailed, ReadOnly
from gavel.limits import BIG_BLOCK
from gavel.media import layout
from gavel.media.allocation import Allocation
from gavel.media.blockmap import BlockMap
from gavel.media.checkpoint import Image, adopt, mend_header, write_header, write_map
from gavel.media.checks import check_volume
from gavel.media.cipher import SEED_SIZE, Cipher, Key, lock_kind, make_lock, open_cipher
from gavel.media.device import Buffer, Device
from gavel.media.layout import (
    ABSENT,
    CLEAN,
    DATA,
    FRAME_MAGIC,
    HEADER,
    HEADER_MAGIC,
    KIND_NAMES,
    LOG,
    MARK,
    MARK_BODY,
    SEAL_SIZE,
    TREE,
    Frame,
    Header,
)
from gavel.media.log import Log, SealedLog
from gavel.media.making import make_volume
from gavel.media.nodes import Nodes
from gavel.media.recovery import LogReader, read_header, read_map


class Volume(Allocation):
    """An open volume; see the module for the order of use."""

    def __init__(
        self,
        device: Device,
        header: Header,
        blockmap: BlockMap,
        read_only: bool,
        cipher: Cipher | None = None,
        seed: bytes = bytes(SEED_SIZE),
    ) -> None:
        salt = header.salt
        log = SealedLog(device, blockmap, salt, 0, 0, cipher) if cipher else Log(device, blockmap, salt, 0, 0)
        nodes = Nodes(device, blockmap, salt, cipher)
        if header.tree_block:
            nodes.move(header.tree_block, blockmap.append[header.tree_block])
        super().__init__(device, header, blockmap, log, nodes)
        self.read_only = read_only
        self._marked_bytes = 0
        self._records = 0
        self._cipher = cipher
        self._seed = seed
        self._lock = header.lock
        self.drops = 0  # how often drop_live() was called
        self.overhead = SEAL_SIZE if cipher else 0  # bytes that an extent takes on the medium beyond its own
        self._reader: LogReader | None = LogReader(device, header)
        self._lives = header.lives
        self.label = header.label
        self.identity = header.identity
        self.created_tid = header.created_tid
        self.last_tid = header.last_tid
        self.roots = self._open_roots(header)
        self.clean = bool(header.flags & CLEAN)

    # -- making and opening ------------------------------------------------------------------------------------

    @staticmethod
    def format(
        device: Device,
        *,
        identity: bytes,
        salt: int,
        label: str,
        created_tid: int,
        key: Key | None = None,
        entropy: bytes = b"",
    ) -> None:
        """Make an empty volume of the device's size; durable on return. What the device held is lost.

        Writes some 200 KiB whatever the size. `salt` must differ from that of every volume ever made on this device.
        With a `key` the volume is encrypted, for good; that takes cipher.FORMAT_ENTROPY random bytes.
        Raises BadRequest for a size, label or key that cannot be, DeviceFull and DeviceFailed.
        """
        make_volume(device, identity, salt, label, created_tid, key, entropy)

    @classmethod
    def open(
        cls, device: Device, *, read_only: bool = False, key: Key | None = None, seed: bytes = bytes(SEED_SIZE)
    ) -> Volume:
        """The volume on a device, as of its newest header; replay() is due next.

        An encrypted one wants its `key`, and `seed` should be cipher.SEED_SIZE random bytes: they are what tells
        apart what two copies of one volume seal. Raises NotAVolume, NewerFormat, KeyNeeded, WrongKey, BadRequest (a
        key for a volume in clear), Damaged, DeviceFailed. Writes nothing.
        """
        header = read_header(device)
        cipher = open_cipher(header.lock, key, header.identity)
        return cls(device, header, read_map(device, header, cipher), read_only, cipher, seed)

    def replay(self) -> Iterator[tuple[int, int, bytes]]:
        """Frames since the checkpoint as (kind, sequence, body), without file data; must be exhausted, once.

        When it ends, everything it yielded is durable and the log is open for appending (unless read_only). Raises
        Damaged where the log does not simply end but has lost frames that were durable.
        """
        reader, self._reader = self._reader, None
        assert reader is not None, "replay() is called once"
        kinds = self._map.kinds
        entered = self._header.log_offset // BIG_BLOCK
        for frame in reader.frames():
            if frame.kind <= layout.KIND_MAX:
                self.clean &= frame.sequence <= self._header.synced
                yield frame.kind, frame.sequence, self._opened(frame)
            elif frame.kind == MARK:
                lives = MARK_BODY.unpack(frame.body)[0]
                if lives >= layout.COUNT_MAX:
                    raise Damaged("log mark", frame.offset, f"a life below {layout.COUNT_MAX}", lives)
                if lives > self._lives:  # opened since the checkpoint, and not closed
                    self._lives, self.clean = lives, False
            elif frame.kind == layout.DATA:
                self.clean = False
            block = reader.offset // BIG_BLOCK
            if block != entered:
                entered = block
                taken = kinds[block] in (HEADER, ABSENT) or block in (self._map_block, self._nodes.block)
                if taken or self._map.live[block]:
                    raise Damaged("log link", frame.offset, "a free big-block", KIND_NAMES[kinds[block]])
                self._map.assign(block, LOG)
        reader.judge_rest(self._map)
        self._start(reader)

    def _start(self, reader: LogReader) -> None:
        log = self._log
        log.start(reader.offset, reader.sequence, reader.sum, self._header.generation, not self.read_only)
        log.appended = reader.size
        log.durable = reader.synced
        for block, sequence in reader.visited:
            log.last_of[block] = sequence
            self._map.fill(block, BIG_BLOCK)
        if self.read_only:
            return
        if max(self._lives, self._header.generation) >= layout.COUNT_LAST:
            raise ReadOnly("the volume's counters are near their end; open it for reading, and copy it to a new one")
        self._device.sync()  # what was read may have been in a cache only; nothing may be reused on its word
        self._retire_dead()
        former = self._header.version < layout.VERSION
        if not former:
            mend_header(self._device, self._header)
        self._lives += 1
        log.append(MARK, MARK_BODY.pack(self._lives), 0)
        log.write_out()
        self._device.sync()
        log.durable = self._settled = log.written  # what was replayed is applied, what was staged before never will be
        if self._cipher is not None:
            self._cipher.begin(self._lives, self._seed)  # only now: this life is durable, nobody seals under it again
        if former:
            self._take_over()
        log.checkpointed(self._header.generation)

    def _take_over(self) -> None:
        """Have the header say this version, before anything is written that a former release would not understand."""
        header = self._header._replace(generation=self._header.generation + 1, version=layout.VERSION)
        if self._cipher is not None and header.roots:  # their seal is one for this very generation
            header = header._replace(roots=self._cipher.seal(HEADER_MAGIC, 0, header.generation, self.roots))
        write_header(self._device, header)
        self._device.sync()
        self._header = header

    def _opened(self, frame: Frame) -> bytes:
        if self._cipher is None:
            return frame.body
        return self._cipher.open("log frame", FRAME_MAGIC, frame.kind, frame.offset, frame.body)

    def _open_roots(self, header: Header) -> bytes:
        if self._cipher is None or not header.roots:
            return header.roots
        return self._cipher.open("roots in the volume header", HEADER_MAGIC, 0, header.generation, header.roots)

    # -- the log -----------------------------------------------------------------------------------------------

    @property
    def written(self) -> int:
        """The sequence of the last frame appended."""
        return self._log.written

    def append(self, kind: int, body: Buffer, reserve: bool = False) -> int:
        """Append a frame; its sequence. Kinds are 0..0xEF, bodies at most FRAME_MAX bytes. Not durable.

        With `reserve` the last big-block may be used: for what a checkpoint needs.
        Raises VolumeFull, DeviceFull, DeviceFailed or ReadOnly, each with nothing appended.
        """
        assert 0 <= kind <= layout.KIND_MAX
        return self._log.append(kind, body, 0 if reserve else None)

    def append_data(self, data: Buffer, sum: bytes | None = None, reserve: bool = False) -> int:
        """Append file bytes (at most FRAME_MAX); the place where read() will find them. Not durable.

        They take `overhead` bytes more on the medium, which count in Extent.stored. `sum` is their XXH3-128 if the
        caller has it already. The buffer may be reused on return. Raises as append(); VolumeFull while the reserve
        for append() is still untouched, unless `reserve` says that these bytes are moved to make room.
        """
        return self._log.append_data(data, sum, reserve)

    def flush(self) -> None:
        """Hand all pending frames and nodes to the device; a device sync that begins now makes them durable.

        Raises DeviceFull (they stay pending; flush again later) or DeviceFailed.
        """
        self._log.write_out()
        if self._nodes.waiting:
            self._guarded(self._nodes.write_out)

    def synced(self, sequence: int) -> None:
        """Note that a device sync has made all frames up to this sequence durable."""
        assert sequence <= self._log.written
        self._log.durable = max(self._log.durable, sequence)

    def settle(self, sequence: int) -> None:
        """Note that every data frame up to here is either referred to by an applied record or never will be."""
        assert sequence <= self._log.written
        self._settled = max(self._settled, sequence)

    def borrow(self, place: int) -> None:
        """Note that a record which is not applied yet will refer once more to file data at `place`.

        Its big-block is not freed before settle() and a checkpoint have gone beyond what is written by now, as if a
        frame had been written there. Only for what an applied record refers to, or a frame that is not settled.
        """
        block, sequence = place // BIG_BLOCK, self._log.written + 1
        self._log.last_of[block] = self._log.data_of[block] = sequence

    def fail(self, error: DeviceFailed) -> None:
        """Note that a sync has failed: what was written since the last one is uncertain, nothing more is taken."""
        self._log.fail(error)

    def read(self, place: int, stored: int) -> bytes:
        """What was given to append_data(), of which `stored` bytes lie at `place`.

        Unverified where the volume is not encrypted (media.extents.restore() does that). Raises Damaged for a place
        outside the volume or a broken seal, DeviceFailed.
        """
        found = self._log.find(place, stored) if self._log.waiting else None
        if found is None:
            if place < BIG_BLOCK or stored > layout.BODY_MAX or place + stored > len(self._map) * BIG_BLOCK:
                raise Damaged("extent", place, "a place in the volume", stored)
            found = self._device.read(place, stored)
        return found if self._cipher is None else self._cipher.open("file data", FRAME_MAGIC, DATA, place, found)

    @property
    def replay_size(self) -> tuple[int, int]:
        """(bytes, records) that a recovery would replay now."""
        return self._log.appended - self._marked_bytes, self._records

    def note_records(self, count: int) -> None:
        """Note that so many more records are in the log."""
        self._records += count

    # -- nodes and live bytes ----------------------------------------------------------------------------------

    def load_node(self, address: int) -> bytes:
        """The payload of a node; raises Damaged, DeviceFailed."""
        return self._nodes.load(address)

    def load_nodes(self, addresses: list[int]) -> dict[int, bytes]:
        """Payloads of the first of these nodes and of those close behind it, in one read; only those that verify."""
        return self._nodes.load_near(addresses)

    def save_node(self, payload: bytes, superseded: bool = False) -> int:
        """Save a node; its address. Durable once the checkpoint under way is published and synced.

        Between freeze() and finish() the node belongs to the image, and to the live tree too unless `superseded`.
        Raises VolumeFull, DeviceFull, DeviceFailed, ReadOnly with nothing saved.
        """
        self._writable()
        try:
            address = self._nodes.save(payload, self._header.generation)
        except DeviceFailed as error:
            self.fail(error)
            raise
        offset, size = layout.node_extent(address)
        block = offset // BIG_BLOCK
        image = self._image
        if image is not None and image.header is None:
            image.hold(block, size, self._map.append[block])
        if not superseded:
            self._map.add(block, size)
        return address

    def free_node(self, address: int) -> None:
        """The live tree no longer needs this node; an image under way keeps it."""
        offset, size = layout.node_extent(address)
        self._map.drop(offset // BIG_BLOCK, size)

    def add_live(self, place: int, size: int) -> None:
        """A live record refers to `size` more bytes at a place in the log."""
        self._map.add(place // BIG_BLOCK, size)

    def drop_live(self, place: int, size: int) -> None:
        """A live record refers to them no longer."""
        self.drops += 1
        self._map.drop(place // BIG_BLOCK, size)

    def use_of(self, block: int) -> int:
        """How often a big-block was put to use. While that stays the same a place in it means the same bytes."""
        return self._map.generation[block]

    # -- keys --------------------------------------------------------------------------------------------------

    @property
    def locked_by(self) -> str:
        """What opens the volume, "passphrase" or "key file"; empty for one that is not encrypted."""
        return lock_kind(self._lock)

    @property
    def version(self) -> int:
        """The format version of the newest durable header; opening for writing makes an older one layout.VERSION."""
        return self._header.version

    def new_lock(self, key: Key, entropy: bytes) -> bytes:
        """What lets another key open the volume; `entropy`: cipher.LOCK_ENTROPY random bytes. Changes nothing.

        It takes a fifth of a second for a passphrase, and may be called beside all else, from another thread. Raises
        BadRequest for a volume in clear or a key that cannot be, ReadOnly, DeviceFailed.
        """
        self._writable()
        if self._cipher is None:
            raise BadRequest("the volume is not encrypted and has no key to change; copy it to one that is")
        return make_lock(key, self._cipher.data_key, self.identity, entropy)

    def rekey(self, lock: bytes) -> None:
        """Let the key of a new_lock() open the volume.

        Takes effect with the next checkpoint: a crash before leaves the old key, one after the new, never neither.
        One checkpoint more and the old lock is overwritten. Raises ReadOnly, DeviceFailed.
        """
        self._writable()
        self._lock = lock

    # -- checkpoints -------------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Begin a checkpoint: all records appended so far must be applied. Abandons one that was not published.

        Raises VolumeFull, DeviceFull, DeviceFailed, ReadOnly; the live state is untouched by any of them.
        """
        self._writable()
        log = self._log
        log.append(MARK, MARK_BODY.pack(self._lives), 0)
        self.flush()
        dropped, self._image = self._image, None
        if dropped is not None:
            self._map.dirty |= dropped.map.dirty | dropped.rewritten
        self._take_in()
        offset = log.cursor - layout.frame_size(MARK_BODY.size)
        self._image = Image(
            self._map.copy(), self._header.generation + 1, offset, log.written, log.sum, log.appended, self._records
        )
        self._image.members = self._members.packed()
        self._map.dirty.clear()

    def finish(self, roots: bytes, last_tid: int, clean: bool = False) -> None:
        """Step 1: write nodes and map; a device sync is due before publish().

        `roots` is history's own, `last_tid` the highest tid ever issued or promised, `clean` says that the volume is
        being closed. Raises as save_node(); may then be called again.
        """
        image = self._image
        assert image is not None and image.header is None, "finish() follows freeze()"
        self._writable()
        self.flush()
        written = self._log.written  # which the sync before publish() makes durable
        self._nodes.settle_sector()
        tree = self._nodes.block
        if tree and image.map.kinds[tree] == TREE:
            image.map.fill(tree, self._map.append[tree])
        image.rewritten |= image.map.dirty
        try:
            placed = write_map(
                self._device, self._map, image.map, self._header.salt, image.generation, self._map_block, self._cipher
            )
        except DeviceFailed as error:
            self.fail(error)
            raise
        self._map_block = placed.block
        assert len(roots) <= layout.ROOTS_MAX
        sealed = self._cipher.seal(HEADER_MAGIC, 0, image.generation, roots) if self._cipher else roots
        image.header = self._header._replace(
            generation=image.generation, last_tid=max(last_tid, self._header.last_tid), flags=CLEAN if clean else 0,
            log_offset=image.log_offset, log_sequence=image.log_sequence, log_sum=image.log_sum,
            root_sum=placed.sum, root_offset=placed.offset, root_length=placed.length,
            tree_block=tree if tree and image.map.kinds[tree] == TREE else 0, map_block=placed.block,
            lives=self._lives, synced=written, roots=sealed,
            big_blocks=len(image.map), lock=self._lock, members=image.members, version=layout.VERSION,
        )  # fmt: skip
        image.roots = roots

    def publish(self) -> None:
        """Step 2, after a sync: write the header copies; another sync is due before retire()."""
        image = self._image
        assert image is not None and image.header is not None, "publish() follows finish() and a sync"
        self._writable()
        try:
            write_header(self._device, image.header)
        except DeviceFailed as error:
            self.fail(error)
            raise
        image.published = True

    def retire(self) -> None:
        """Step 3, after that sync: the image is the durable one; what it and the live map hold no more is FREE."""
        image = self._image
        assert image is not None and image.header is not None and image.published, "retire() follows publish()"
        self._image = None
        self._header = image.header
        adopt(self._map, image.map)
        self._durable_live = image.map.live
        self.roots, self.last_tid = image.roots, self._header.last_tid
        self._marked_bytes = image.appended
        self._records -= image.records
        self._log.checkpointed(image.generation)
        self._retire_dead()
        self._members.retired(image.members)
        self._take_in()
        self._keep()
        self._trimmer.run(self._map, bool(self._header.flags & CLEAN))

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except DeviceFailed as error:
            self.fail(error)
            raise

    # -- checks ------------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """What is wrong with headers, map and members' names, one sentence each; reads them from the device."""
        tree, log = self._nodes.block, self._log.block
        problems = check_volume(self._device, self._header, self._map, tree, log, self._cipher)
        return problems + list(self._members.problems())
