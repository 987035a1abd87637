"""One volume on one device: the log of what was promised, tree nodes, the map of big-blocks, and its checkpoints.

Invariants (docs/internals/volume-format.md argues why they survive a crash at any write):

- what the newest durable header reaches (map, nodes, and the log from its MARK on) is never overwritten;
- a big-block becomes FREE only when it is dead both in the durable image and in the live map, holds no frame that
 fmt: skipreplay would need, and no data frame that may still be referred to (settle());
- nothing here promises durability but a device sync, which is the driver's: the volume itself syncs only in format()
 fmt: skipand at the end of replay().

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
 fmt: skip  CLEAN,
 fmt: skip  DATA,
 fmt: skip  FRAME_MAGIC,
 fmt: skip  HEADER_MAGIC,
 fmt: skip  KIND_NAMES,
 fmt: skip  LOG,
 fmt: skip  MAP,
 fmt: skip  MARK,
 fmt: skip  MARK_BODY,
 fmt: skip  SEAL_SIZE,
 fmt: skip  TREE,
 fmt: skip  Frame,
 fmt: skip  Header,
)  # fmt: skip
from gavel.media.log import Log, SealedLog
from gavel.media.making import make_volume
from gavel.media.nodes import Nodes
from gavel.media.recovery import LogReader, read_header, read_map


class Volume(Allocation):
 fmt: skip  """An open volume; see the module for the order of use."""

 fmt: skip  def __init__(
 fmt: skip      self,
 fmt: skip      device: Device,
 fmt: skip      header: Header,
 fmt: skip      blockmap: BlockMap,
 fmt: skip      read_only: bool,
 fmt: skip      cipher: Cipher | None = None,
 fmt: skip      seed: bytes = bytes(SEED_SIZE),
 fmt: skip  ) -> None:
 fmt: skip      salt = header.salt
 fmt: skip      log = SealedLog(device, blockmap, salt, 0, 0, cipher) if cipher else Log(device, blockmap, salt, 0, 0)
 fmt: skip      nodes = Nodes(device, blockmap, salt, cipher)
 fmt: skip      if header.tree_block:
 fmt: skip          nodes.move(header.tree_block, blockmap.append[header.tree_block])
 fmt: skip      super().__init__(device, header, blockmap, log, nodes)
 fmt: skip      self.read_only = read_only
 fmt: skip      self._marked_bytes = 0
 fmt: skip      self._records = 0
 fmt: skip      self._cipher = cipher
 fmt: skip      self._seed = seed
 fmt: skip      self._lock = header.lock
 fmt: skip      self.drops = 0  # how often drop_live() was called
 fmt: skip      self.overhead = SEAL_SIZE if cipher else 0  # bytes that an extent takes on the medium beyond its own
 fmt: skip      self._reader: LogReader | None = LogReader(device, header)
 fmt: skip      self._lives = header.lives
 fmt: skip      self.label = header.label
 fmt: skip      self.identity = header.identity
 fmt: skip      self.created_tid = header.created_tid
 fmt: skip      self.last_tid = header.last_tid
 fmt: skip      self.roots = self._open_roots(header)
 fmt: skip      self.clean = bool(header.flags & CLEAN)

 fmt: skip  # -- making and opening ------------------------------------------------------------------------------------

 fmt: skip  @staticmethod
 fmt: skip  def format(
 fmt: skip      device: Device,
 fmt: skip      *,
 fmt: skip      identity: bytes,
 fmt: skip      salt: int,
 fmt: skip      label: str,
 fmt: skip      created_tid: int,
 fmt: skip      key: Key | None = None,
 fmt: skip      entropy: bytes = b"",
 fmt: skip  ) -> None:
 fmt: skip      """Make an empty volume of the device's size; durable on return. What the device held is lost.

 fmt: skip      Writes some 200 KiB whatever the size. `salt` must differ from that of every volume ever made on this device.
 fmt: skip      With a `key` the volume is encrypted, for good; that takes cipher.FORMAT_ENTROPY random bytes.
 fmt: skip      Raises BadRequest for a size, label or key that cannot be, DeviceFull and DeviceFailed.
 fmt: skip      """
 fmt: skip      make_volume(device, identity, salt, label, created_tid, key, entropy)

 fmt: skip  @classmethod
 fmt: skip  def open(
 fmt: skip      cls, device: Device, *, read_only: bool = False, key: Key | None = None, seed: bytes = bytes(SEED_SIZE)
 fmt: skip  ) -> Volume:
 fmt: skip      """The volume on a device, as of its newest header; replay() is due next.

 fmt: skip      An encrypted one wants its `key`, and `seed` should be cipher.SEED_SIZE random bytes: they are what tells
 fmt: skip      apart what two copies of one volume seal. Raises NotAVolume, NewerFormat, KeyNeeded, WrongKey, BadRequest (a
 fmt: skip      key for a volume in clear), Damaged, DeviceFailed. Writes nothing.
 fmt: skip      """
 fmt: skip      header = read_header(device)
 fmt: skip      cipher = open_cipher(header.lock, key, header.identity)
 fmt: skip      return cls(device, header, read_map(device, header, cipher), read_only, cipher, seed)

 fmt: skip  def replay(self) -> Iterator[tuple[int, int, bytes]]:
 fmt: skip      """Frames since the checkpoint as (kind, sequence, body), without file data; must be exhausted, once.

 fmt: skip      When it ends, everything it yielded is durable and the log is open for appending (unless read_only). Raises
 fmt: skip      Damaged where the log does not simply end but has lost frames that were durable.
 fmt: skip      """
 fmt: skip      reader, self._reader = self._reader, None
 fmt: skip      assert reader is not None, "replay() is called once"
 fmt: skip      kinds = self._map.kinds
 fmt: skip      entered = self._header.log_offset // BIG_BLOCK
 fmt: skip      for frame in reader.frames():
 fmt: skip          if frame.kind <= layout.KIND_MAX:
 fmt: skip              self.clean = False
 fmt: skip              yield frame.kind, frame.sequence, self._opened(frame)
 fmt: skip          elif frame.kind == MARK:
 fmt: skip              lives = MARK_BODY.unpack(frame.body)[0]
 fmt: skip              if lives >= layout.COUNT_MAX:
 fmt: skip                  raise Damaged("log mark", frame.offset, f"a life below {layout.COUNT_MAX}", lives)
 fmt: skip              if lives > self._lives:  # opened since the checkpoint, and not closed
 fmt: skip                  self._lives, self.clean = lives, False
 fmt: skip          elif frame.kind == layout.DATA:
 fmt: skip              self.clean = False
 fmt: skip          block = reader.offset // BIG_BLOCK
 fmt: skip          if block != entered:
 fmt: skip              entered = block
 fmt: skip              if self._map.live[block] or kinds[block] > MAP or block in (self._map_block, self._nodes.block):
 fmt: skip                  raise Damaged("log link", frame.offset, "a free big-block", KIND_NAMES[kinds[block]])
 fmt: skip              self._map.assign(block, LOG)
 fmt: skip      reader.judge_rest(self._map)
 fmt: skip      self._start(reader)

 fmt: skip  def _start(self, reader: LogReader) -> None:
 fmt: skip      log = self._log
 fmt: skip      log.start(reader.offset, reader.sequence, reader.sum, self._header.generation, not self.read_only)
 fmt: skip      log.appended = reader.size
 fmt: skip      log.durable = reader.synced
 fmt: skip      for block, sequence in reader.visited:
 fmt: skip          log.last_of[block] = sequence
 fmt: skip          self._map.fill(block, BIG_BLOCK)
 fmt: skip      if self.read_only:
 fmt: skip          return
 fmt: skip      if max(self._lives, self._header.generation) >= layout.COUNT_LAST:
 fmt: skip          raise ReadOnly("the volume's counters are near their end; open it for reading, and copy it to a new one")
 fmt: skip      self._device.sync()  # what was read may have been in a cache only; nothing may be reused on its word
 fmt: skip      self._retire_dead()
 fmt: skip      former = self._header.version < layout.VERSION
 fmt: skip      if former:  # before anything is written that the former release would not understand
 fmt: skip          self._header = self._header._replace(generation=self._header.generation + 1, version=layout.VERSION)
 fmt: skip          write_header(self._device, self._header)
 fmt: skip      else:
 fmt: skip          mend_header(self._device, self._header)
 fmt: skip      self._lives += 1
 fmt: skip      log.append(MARK, MARK_BODY.pack(self._lives), 0)
 fmt: skip      log.write_out()
 fmt: skip      self._device.sync()
 fmt: skip      log.durable = log.written
 fmt: skip      log.checkpointed(self._header.generation)
 fmt: skip      if self._cipher is not None:
 fmt: skip          self._cipher.begin(self._lives, self._seed)  # only now: this life is durable, nobody seals under it again

 fmt: skip  def _opened(self, frame: Frame) -> bytes:
 fmt: skip      if self._cipher is None:
 fmt: skip          return frame.body
 fmt: skip      return self._cipher.open("log frame", FRAME_MAGIC, frame.kind, frame.offset, frame.body)

 fmt: skip  def _open_roots(self, header: Header) -> bytes:
 fmt: skip      if self._cipher is None or not header.roots:
 fmt: skip          return header.roots
 fmt: skip      return self._cipher.open("roots in the volume header", HEADER_MAGIC, 0, header.generation, header.roots)

 fmt: skip  # -- the log -----------------------------------------------------------------------------------------------

 fmt: skip  @property
 fmt: skip  def written(self) -> int:
 fmt: skip      """The sequence of the last frame appended."""
 fmt: skip      return self._log.written

 fmt: skip  def append(self, kind: int, body: Buffer) -> int:
 fmt: skip      """Append a frame; its sequence. Kinds are 0..0xEF, bodies at most FRAME_MAX bytes. Not durable.

 fmt: skip      Raises VolumeFull, DeviceFull, DeviceFailed or ReadOnly, each with nothing appended.
 fmt: skip      """
 fmt: skip      assert 0 <= kind <= layout.KIND_MAX
 fmt: skip      return self._log.append(kind, body)

 fmt: skip  def append_data(self, data: Buffer, sum: bytes | None = None, reserve: bool = False) -> int:
 fmt: skip      """Append file bytes (at most FRAME_MAX); the place where read() will find them. Not durable.

 fmt: skip      They take `overhead` bytes more on the medium, which count in Extent.stored. `sum` is their XXH3-128 if the
 fmt: skip      caller has it already. The buffer may be reused on return. Raises as append(); VolumeFull while the reserve
 fmt: skip      for append() is still untouched, unless `reserve` says that these bytes are moved to make room.
 fmt: skip      """
 fmt: skip      return self._log.append_data(data, sum, reserve)

 fmt: skip  def flush(self) -> None:
 fmt: skip      """Hand all pending frames and nodes to the device; a device sync that begins now makes them durable.

 fmt: skip      Raises DeviceFull (they stay pending; flush again later) or DeviceFailed.
 fmt: skip      """
 fmt: skip      self._log.write_out()
 fmt: skip      if self._nodes.waiting:
 fmt: skip          self._guarded(self._nodes.write_out)

 fmt: skip  def synced(self, sequence: int) -> None:
 fmt: skip      """Note that a device sync has made all frames up to this sequence durable."""
 fmt: skip      assert sequence <= self._log.written
 fmt: skip      self._log.durable = max(self._log.durable, sequence)

 fmt: skip  def settle(self, sequence: int) -> None:
 fmt: skip      """Note that every data frame up to here is either referred to by an applied record or never will be."""
 fmt: skip      assert sequence <= self._log.written
 fmt: skip      self._settled = max(self._settled, sequence)

 fmt: skip  def borrow(self, place: int) -> None:
 fmt: skip      """Note that a record which is not applied yet will refer once more to file data at `place`.

 fmt: skip      Its big-block is not freed before settle() and a checkpoint have gone beyond what is written by now, as if a
 fmt: skip      frame had been written there. Only for what an applied record refers to, or a frame that is not settled.
 fmt: skip      """
 fmt: skip      self._log.last_of[place // BIG_BLOCK] = self._log.written + 1

 fmt: skip  def fail(self, error: DeviceFailed) -> None:
 fmt: skip      """Note that a sync has failed: what was written since the last one is uncertain, nothing more is taken."""
 fmt: skip      self._log.fail(error)

 fmt: skip  def read(self, place: int, stored: int) -> bytes:
 fmt: skip      """What was given to append_data(), of which `stored` bytes lie at `place`.

 fmt: skip      Unverified where the volume is not encrypted (media.extents.restore() does that). Raises Damaged for a place
 fmt: skip      outside the volume or a broken seal, DeviceFailed.
 fmt: skip      """
 fmt: skip      found = self._log.find(place, stored) if self._log.waiting else None
 fmt: skip      if found is None:
 fmt: skip          if place < BIG_BLOCK or stored > layout.BODY_MAX or place + stored > len(self._map) * BIG_BLOCK:
 fmt: skip              raise Damaged("extent", place, "a place in the volume", stored)
 fmt: skip          found = self._device.read(place, stored)
 fmt: skip      return found if self._cipher is None else self._cipher.open("file data", FRAME_MAGIC, DATA, place, found)

 fmt: skip  @property
 fmt: skip  def replay_size(self) -> tuple[int, int]:
 fmt: skip      """(bytes, records) that a recovery would replay now."""
 fmt: skip      return self._log.appended - self._marked_bytes, self._records

 fmt: skip  def note_records(self, count: int) -> None:
 fmt: skip      """Note that so many more records are in the log."""
 fmt: skip      self._records += count

 fmt: skip  # -- nodes and live bytes ----------------------------------------------------------------------------------

 fmt: skip  def load_node(self, address: int) -> bytes:
 fmt: skip      """The payload of a node; raises Damaged, DeviceFailed."""
 fmt: skip      return self._nodes.load(address)

 fmt: skip  def save_node(self, payload: bytes, superseded: bool = False) -> int:
 fmt: skip      """Save a node; its address. Durable once the checkpoint under way is published and synced.

 fmt: skip      Between freeze() and finish() the node belongs to the image, and to the live tree too unless `superseded`.
 fmt: skip      Raises VolumeFull, DeviceFull, DeviceFailed, ReadOnly with nothing saved.
 fmt: skip      """
 fmt: skip      self._writable()
 fmt: skip      try:
 fmt: skip          address = self._nodes.save(payload, self._header.generation)
 fmt: skip      except DeviceFailed as error:
 fmt: skip          self.fail(error)
 fmt: skip          raise
 fmt: skip      offset, size = layout.node_extent(address)
 fmt: skip      block = offset // BIG_BLOCK
 fmt: skip      image = self._image
 fmt: skip      if image is not None and image.header is None:
 fmt: skip          image.hold(block, size, self._map.append[block])
 fmt: skip      if not superseded:
 fmt: skip          self._map.add(block, size)
 fmt: skip      return address

 fmt: skip  def free_node(self, address: int) -> None:
 fmt: skip      """The live tree no longer needs this node; an image under way keeps it."""
 fmt: skip      offset, size = layout.node_extent(address)
 fmt: skip      self._map.drop(offset // BIG_BLOCK, size)

 fmt: skip  def add_live(self, place: int, size: int) -> None:
 fmt: skip      """A live record refers to `size` more bytes at a place in the log."""
 fmt: skip      self._map.add(place // BIG_BLOCK, size)

 fmt: skip  def drop_live(self, place: int, size: int) -> None:
 fmt: skip      """A live record refers to them no longer."""
 fmt: skip      self.drops += 1
 fmt: skip      self._map.drop(place // BIG_BLOCK, size)

 fmt: skip  # -- keys --------------------------------------------------------------------------------------------------

 fmt: skip  @property
 fmt: skip  def locked_by(self) -> str:
 fmt: skip      """What opens the volume, "passphrase" or "key file"; empty for one that is not encrypted."""
 fmt: skip      return lock_kind(self._lock)

 fmt: skip  @property
 fmt: skip  def version(self) -> int:
 fmt: skip      """The format version of the newest durable header; opening for writing makes an older one layout.VERSION."""
 fmt: skip      return self._header.version

 fmt: skip  def rekey(self, key: Key, entropy: bytes) -> None:
 fmt: skip      """Let another key open the volume; `entropy`: cipher.LOCK_ENTROPY random bytes.

 fmt: skip      Takes effect with the next checkpoint: a crash before leaves the old key, one after the new, never neither.
 fmt: skip      One checkpoint more and the old lock is overwritten. Raises BadRequest for a volume in clear or a key that
 fmt: skip      cannot be, ReadOnly, DeviceFailed.
 fmt: skip      """
 fmt: skip      self._writable()
 fmt: skip      if self._cipher is None:
 fmt: skip          raise BadRequest("the volume is not encrypted and has no key to change; copy it to one that is")
 fmt: skip      self._lock = make_lock(key, self._cipher.data_key, self.identity, entropy)

 fmt: skip  # -- checkpoints -------------------------------------------------------------------------------------------

 fmt: skip  def freeze(self) -> None:
 fmt: skip      """Begin a checkpoint: all records appended so far must be applied. Abandons one that was not published.

 fmt: skip      Raises VolumeFull, DeviceFull, DeviceFailed, ReadOnly; the live state is untouched by any of them.
 fmt: skip      """
 fmt: skip      self._writable()
 fmt: skip      log = self._log
 fmt: skip      log.append(MARK, MARK_BODY.pack(self._lives), 0)
 fmt: skip      self.flush()
 fmt: skip      dropped, self._image = self._image, None
 fmt: skip      if dropped is not None:
 fmt: skip          self._map.dirty |= dropped.map.dirty | dropped.rewritten
 fmt: skip      self._take_in()
 fmt: skip      offset = log.cursor - layout.frame_size(MARK_BODY.size)
 fmt: skip      self._image = Image(
 fmt: skip          self._map.copy(), self._header.generation + 1, offset, log.written, log.sum, log.appended, self._records
 fmt: skip      )
 fmt: skip      self._image.members = self._members.packed()
 fmt: skip      self._map.dirty.clear()

 fmt: skip  def finish(self, roots: bytes, last_tid: int, clean: bool = False) -> None:
 fmt: skip      """Step 1: write nodes and map; a device sync is due before publish().

 fmt: skip      `roots` is history's own, `last_tid` the highest tid ever issued or promised, `clean` says that the volume is
 fmt: skip      being closed. Raises as save_node(); may then be called again.
 fmt: skip      """
 fmt: skip      image = self._image
 fmt: skip      assert image is not None and image.header is None, "finish() follows freeze()"
 fmt: skip      self._writable()
 fmt: skip      self.flush()
 fmt: skip      self._nodes.settle_sector()
 fmt: skip      tree = self._nodes.block
 fmt: skip      if tree and image.map.kinds[tree] == TREE:
 fmt: skip          image.map.fill(tree, self._map.append[tree])
 fmt: skip      image.rewritten |= image.map.dirty
 fmt: skip      try:
 fmt: skip          placed = write_map(
 fmt: skip              self._device, self._map, image.map, self._header.salt, image.generation, self._map_block, self._cipher
 fmt: skip          )
 fmt: skip      except DeviceFailed as error:
 fmt: skip          self.fail(error)
 fmt: skip          raise
 fmt: skip      self._map_block = placed.block
 fmt: skip      assert len(roots) <= layout.ROOTS_MAX
 fmt: skip      sealed = self._cipher.seal(HEADER_MAGIC, 0, image.generation, roots) if self._cipher else roots
 fmt: skip      image.header = self._header._replace(
 fmt: skip          generation=image.generation, last_tid=max(last_tid, self._header.last_tid), flags=CLEAN if clean else 0,
 fmt: skip          log_offset=image.log_offset, log_sequence=image.log_sequence, log_sum=image.log_sum,
 fmt: skip          root_sum=placed.sum, root_offset=placed.offset, root_length=placed.length,
 fmt: skip          tree_block=tree if tree and image.map.kinds[tree] == TREE else 0, map_block=placed.block,
 fmt: skip          lives=self._lives, synced=max(self._log.durable, image.log_sequence), roots=sealed,
 fmt: skip          big_blocks=len(image.map), lock=self._lock, members=image.members, version=layout.VERSION,
 fmt: skip      )  # fmt: skip
 fmt: skip      image.roots = roots

 fmt: skip  def publish(self) -> None:
 fmt: skip      """Step 2, after a sync: write the header copies; another sync is due before retire()."""
 fmt: skip      image = self._image
 fmt: skip      assert image is not None and image.header is not None, "publish() follows finish() and a sync"
 fmt: skip      self._writable()
 fmt: skip      try:
 fmt: skip          write_header(self._device, image.header)
 fmt: skip      except DeviceFailed as error:
 fmt: skip          self.fail(error)
 fmt: skip          raise
 fmt: skip      image.published = True

 fmt: skip  def retire(self) -> None:
 fmt: skip      """Step 3, after that sync: the image is the durable one; what it and the live map hold no more is FREE."""
 fmt: skip      image = self._image
 fmt: skip      assert image is not None and image.header is not None and image.published, "retire() follows publish()"
 fmt: skip      self._image = None
 fmt: skip      self._header = image.header
 fmt: skip      adopt(self._map, image.map)
 fmt: skip      self._durable_live = image.map.live
 fmt: skip      self.roots, self.last_tid = image.roots, self._header.last_tid
 fmt: skip      self._marked_bytes = image.appended
 fmt: skip      self._records -= image.records
 fmt: skip      self._log.checkpointed(image.generation)
 fmt: skip      self._retire_dead()
 fmt: skip      self._members.retired(image.members)
 fmt: skip      self._take_in()
 fmt: skip      self._keep()
 fmt: skip      self._trimmer.run(self._map, bool(self._header.flags & CLEAN))

 fmt: skip  def _guarded(self, write: Callable[[], None]) -> None:
 fmt: skip      try:
 fmt: skip          write()
 fmt: skip      except DeviceFailed as error:
 fmt: skip          self.fail(error)
 fmt: skip          raise

 fmt: skip  # -- checks ------------------------------------------------------------------------------------------------

 fmt: skip  def check(self) -> list[str]:
 fmt: skip      """What is wrong with headers, map and members' names, one sentence each; reads them from the device."""
 fmt: skip      tree, log = self._nodes.block, self._log.block
 fmt: skip      problems = check_volume(self._device, self._header, self._map, tree, log, self._cipher)
 fmt: skip      return problems + list(self._members.problems())
