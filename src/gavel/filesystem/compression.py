"""Whether the data of a file is compressed: a choice for each directory and file, inherited by what is made there.

The choice stands in two bits of inode.flags. A new object takes over those of its directory; later changes of the
directory leave what is in it alone, and a choice never touches data that is already written: it says what happens to
the next write. Where no choice was made, DEFAULT rules.
"""

from __future__ import annotations

import errno
from typing import Final, Literal

from gavel.filesystem import inode as inodes
from gavel.filesystem.failure import failure
from gavel.filesystem.inode import COMPRESS, PLAIN, Inode
from gavel.keys import records
from gavel.media.extents import RAW, ZSTD
from gavel.transaction.transaction import Transaction

Choice = Literal["on", "off", "inherit"]

INHERITED: Final = COMPRESS | PLAIN
DEFAULT: Final = RAW  # not shown to cost less than a twentieth of an untar (benchmarks/compression.py)

_CODECS: Final = {0: DEFAULT, COMPRESS: ZSTD, PLAIN: RAW}
_BITS: Final[dict[str, int]] = {"on": COMPRESS, "off": PLAIN}


def codec(inode: Inode) -> int:
    """The codec for data that is written to a file."""
    return _CODECS.get(inode.flags & INHERITED, RAW)


def choice(inode: Inode) -> str:
    """What stands for an object: "on", "off", or "default" where nothing was chosen."""
    return {COMPRESS: "on", PLAIN: "off"}.get(inode.flags & INHERITED, "default")


def set_compression(tx: Transaction, obj: int, choice: str) -> Inode:
    """Choose for what is written to a file from now on, or for what is made in a directory; returns the inode.

    "on", "off", or "inherit": the choice of the directory it is in, as that stands now; of the root: none.
    Changes ctime. Raises ESTALE; EINVAL for another choice or what is neither file nor directory.
    """
    inode = inodes.read(tx, obj)
    if choice not in ("on", "off", "inherit") or not (inode.is_file or inode.is_dir):
        raise failure(errno.EINVAL)
    bits = _BITS.get(choice, 0)
    if choice == "inherit" and obj != records.ROOT_OBJECT and inode.parent:
        bits = inodes.read(tx, inode.parent).flags & INHERITED
    inode.flags = inode.flags & ~INHERITED | bits
    inode.ctime = tx.now
    inodes.write(tx, obj, inode)
    return inode
