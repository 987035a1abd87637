"""Names what a device holds when it is no GavelFS volume, from the signatures that its owners document.

Offsets and bytes are those of the formats' own specifications. Reads a few KiB, changes nothing.
"""

from __future__ import annotations

from typing import Final

from gavel.errors import DeviceFailed
from gavel.media.device import Device
from gavel.media.layout import MEMBER_MAGIC

# (offset, signature, name), the more telling ones first.
SIGNATURES: Final = (
    (0, MEMBER_MAGIC, "a further member of a GavelFS volume; open the volume by its first file or device"),
    (65_600, b"_BHRfS_M", "a Btrfs filesystem"),
    (32_769, b"CD001", "an ISO 9660 image"),
    (4_086, b"SWAPSPACE2", "Linux swap space"),
    (4_096, b"\xfc\x4e\x2b\xa9", "a Linux software RAID member"),
    (1_080, b"\x53\xef", "an ext2, ext3 or ext4 filesystem"),
    (1_024, b"\x10\x20\xf5\xf2", "an F2FS filesystem"),
    (1_024, b"\xe2\xe1\xf5\xe0", "an EROFS filesystem"),
    (0, b"XFSB", "an XFS filesystem"),
    (0, b"hsqs", "a SquashFS image"),
    (0, b"LUKS\xba\xbe", "a LUKS encrypted volume"),
    (536, b"LVM2 001", "an LVM physical volume"),
    (0, b"QFI\xfb", "a QCOW2 disk image"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b\x08", "a gzip archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"\xfd7zXZ\0", "an XZ archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x89PNG\r\n", "a PNG image"),
    (3, b"NTFS    ", "an NTFS filesystem"),
    (3, b"EXFAT   ", "an exFAT filesystem"),
    (82, b"FAT32   ", "a FAT filesystem"),
    (54, b"FAT1", "a FAT filesystem"),
    (512, b"EFI PART", "a GPT partition table"),
    (510, b"\x55\xaa", "a boot sector or partition table"),
)


def recognise(device: Device) -> str:
    """What the device holds, for a sentence ("it holds …"); empty if it is blank or not recognised."""
    size = device.size()
    for offset, signature, name in SIGNATURES:
        if offset + len(signature) > size:
            continue
        try:
            if device.read(offset, len(signature)) == signature:
                return name
        except DeviceFailed:
            return "something that cannot be read"
    return ""
