"""Golden filesystems: a small tree and its history as a release has written them, kept as text.

golden.py holds what the volume's room alone has written; this holds what stands above it: inodes, names, extents, the
past, a checkpoint, and a tail of log behind it that nobody has replayed. `python -m tests.formats.golden_filesystem`
writes the one of the current format version, once; those of versions 1 and 2 were written by the releases of then.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
import zlib
from pathlib import Path

import gavel
from gavel.media import layout

HERE = Path(__file__).parent
SIZE = 128 * 1024 * 1024
SECTOR = 512
LARGE = bytes(range(256)) * 1200  # three extents


def path_of(version: int) -> Path:
    return HERE / f"filesystem-{version}.txt"


def unpack(version: int, volume: Path) -> None:
    """Write the golden volume of a format version to a sparse file."""
    packed = zlib.decompress(base64.b64decode(path_of(version).read_text()))
    with volume.open("wb") as file:
        file.truncate(SIZE)
        for at in range(0, len(packed), 8 + SECTOR):
            file.seek(int.from_bytes(packed[at : at + 8], "little"))
            file.write(packed[at + 8 : at + 8 + SECTOR])


def pack(volume: Path, version: int) -> None:
    """Keep a volume as text; an existing one is never overwritten."""
    rows = []
    with volume.open("rb") as file:
        for at in range(0, SIZE, SECTOR):
            data = file.read(SECTOR)
            if any(data):
                rows.append(at.to_bytes(8, "little") + data)
    with path_of(version).open("x") as text:
        text.write(base64.encodebytes(zlib.compress(b"".join(rows), 9)).decode())


def build(volume: Path) -> None:
    """Two lives: the first ends with a checkpoint, the second leaves a tail of log."""
    before = volume.with_suffix(".whole")
    with gavel.open(before, create=True, size=SIZE) as fs:
        fs.makedirs("/home/ann")
        fs.write_bytes("/home/ann/letter", b"Dear Ben", sync=True)
        fs.write_bytes("/home/ann/large", LARGE, sync=True)
        fs.symlink("letter", "/home/ann/link")
        fs.link("/home/ann/letter", "/home/letter")
        fs.setxattr("/home/ann/letter", "user.mood", b"good")
        fs.chmod("/home/ann/letter", 0o640)
        fs.sync()
        fs.snapshot_create("first")
        fs.write_bytes("/home/ann/letter", b"Dear Cleo", sync=True)
    with gavel.open(before) as fs:
        fs.remove("/home/ann/large")
        fs.rename("/home/ann", "/home/anna")
        fs.write_bytes("/home/new", b"new" * 2000, sync=True)
        fs.sync()
        shutil.copyfile(before, volume)  # as a crash would have left it


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        build(Path(directory) / "golden.gavel")
        pack(Path(directory) / "golden.gavel", layout.VERSION)
