"""Every bound of GavelFS, each with its reason. Relations between bounds are asserted at the end."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Names and values that POSIX and the kernel see.
NAME_MAX: Final = 255  # bytes; what Linux itself allows in one path component
SYMLINK_MAX: Final = 4095  # bytes; PATH_MAX without the terminator
XATTR_NAME_MAX: Final = 255  # bytes; XATTR_NAME_MAX of Linux
XATTR_VALUE_MAX: Final = 64 * KIB  # XATTR_SIZE_MAX of Linux
XATTR_LIST_MAX: Final = 64 * KIB  # XATTR_LIST_MAX of Linux; a list that cannot be returned must not be made
NOTE_MAX: Final = 4 * KIB  # bytes of a snapshot's note; a remark, not a file
LINK_MAX: Final = 2**31 - 1  # fits the kernel's nlink with room
FILE_SIZE_MAX: Final = 2**63 - 1  # bytes; loff_t

# The volume.
BIG_BLOCK: Final = 8 * MIB  # unit of allocation, HAMMER's size; large enough that a map entry per unit is cheap
VOLUME_MIN: Final = 12 * BIG_BLOCK  # header area, one open big-block per stream, the reserve, and some to use
RESERVE_BIG_BLOCKS: Final = 4  # kept back so that deleting and checkpoints work on a full volume
EXTENT_MAX: Final = 128 * KIB  # raw bytes under one checksum: what a 4 KiB random read may have to fetch
COMPRESS_MIN: Final = 4 * KIB  # below it compressing takes as long as all else about a file, to save 2 % of a tree
INLINE_MAX: Final = 256  # file data up to this many bytes lives in the leaf itself
FRAME_MAX: Final = 1 * MIB  # body of one log frame; larger transactions take several
LOG_PENDING_MAX: Final = 1 * MIB  # frames kept in memory before they are handed to the device in one write
WITNESS_BIG_BLOCKS: Final = 64  # free big-blocks in which recovery looks for proof that a log end is rot, not a crash
SCRYPT_COST: Final = 16  # 64 MiB and a fifth of a second for each try of a passphrase
SCRYPT_COST_MAX: Final = 20  # 1 GiB; a header that asks for more is not believed
TRANSACTION_MAX: Final = 64 * MIB  # encoded records of one transaction, its data (staged ahead) not counted

# A checkpoint is due when any of these is passed. The first two are how much log recovery may have to replay.
REPLAY_BYTES_MAX: Final = 64 * MIB
REPLAY_RECORDS_MAX: Final = 100_000
DIRTY_NODES_MAX: Final = 128 * MIB  # nodes waiting in memory; a record in a leaf of its own dirties 16 KiB

# Memory.
NODE_CACHE_BYTES: Final = 72 * MIB  # encoded size of clean B-tree nodes kept decoded (resident: some three times that)
EXTENT_CACHE_BYTES: Final = 16 * MIB  # verified file data kept for the next piece of a sequential read
OVERLAY_RECORDS: Final = 8192  # dirty records that make a flush due; bounds how long one flush holds the loop
OVERLAY_BYTES: Final = 64 * MIB  # staged file data that makes a flush due

# Time.
FLUSH_SECONDS: Final = 5  # without fsync at most this much is lost
TID_RESERVE_US: Final = 6_000_000  # tids a crash may have forgotten lie within this of the last durable one
SLICE_RECORDS: Final = 256  # work done between two looks at the event loop by checkpoint, undo, check and reap
SLICE_NODES: Final = 32  # nodes a checkpoint writes between two such looks; a millisecond or so

# One operation.
COPY_RECORDS_MAX: Final = 4096  # data records one copy_file_range shares; half a gigabyte, then the caller goes on

# The mount.
FUSE_REQUEST_MAX: Final = (
    1 * MIB
)  # one read or write of the kernel; its own limit unless fs.fuse.max_pages_limit is raised
READ_AHEAD: Final = 4 * MIB  # what the kernel may ask for ahead of a sequential reader; keeps the loop busy meanwhile
HAND_OVER_SECONDS: Final = 4  # how long data of open files stays in the kernel's cache alone; below FLUSH_SECONDS
REAP_OBJECTS: Final = 32  # orphans deleted in one turn of the event loop; a millisecond or so
REAP_WAITING: Final = 10_000  # orphans that may wait for a quiet moment; more are deleted among the requests

# Upkeep.
JOB_RECORDS: Final = 64  # records looked at in one step of a job; a fraction of a millisecond
JOB_DIRTY_MAX: Final = 8 * MIB  # nodes that a job leaves waiting in memory before it has them written
RETENTION_POINTS_MAX: Final = 6000  # states below the horizon that are kept; their tids are one record
RETENTION_SPAN_MAX: Final = 1000 * 365 * 86_400  # seconds; what a policy can say other than `forever`
VICTIMS_MAX: Final = 256 * MIB  # bytes that one pass of reblock moves
RECOVER_RECORDS: Final = 1_000_000  # records of old log frames that `gavel recover` holds; some 300 MB
DEDUP_LATELY: Final = 16_384  # extents in which a write looks for the same content; some 4 MB
DEDUP_SUMS: Final = 400_000  # extents that one pass of dedup remembers; some 100 MB

# Looking back.
DATA_CHANGES_MAX: Final = 4096  # data records looked at to tell a write from a truncation; with more it was written
LOG_CHANGES_MAX: Final = 20_000  # changes that `gavel log` holds in memory while it goes back in time, some 10 MB
# The wire.
WIRE_GREETING_MAX: Final = 4 * KIB  # payload of a greeting or an error; all that is read of a peer not yet known
WIRE_FRAME_MAX: Final = 256 * KIB  # payload of a frame: a millisecond of a fast link, which a vote may have to wait
WIRE_MESSAGE_MAX: Final = TRANSACTION_MAX + 1 * MIB  # a message in several frames: the largest transaction, its head
WIRE_REQUESTS: Final = 256  # requests in flight on one connection; more than a mount's threads can ask at once
WIRE_WINDOW: Final = 4 * MIB  # file data sent ahead that the receiver has not taken yet; 20 ms at 200 MB/s
PATIENCE_SECONDS: Final = 30  # default: how long a client waits for a quorum; beyond a restart, below a hung program


# Objects.
OBJECT_ID_BLOCK: Final = 65_536  # ids reserved at a time; a crash wastes at most this many of 2**63
OBJECT_ID_MAX: Final = 2**63 - 1  # the top bit marks the mount's node ids of as-of views

# Transactions.
TRANSACTION_RETRIES: Final = 16  # default of fs.run(); each retry means that somebody else succeeded

assert FRAME_MAX < BIG_BLOCK // 2  # a frame never needs more than one fresh big-block
assert EXTENT_MAX < FRAME_MAX
assert INLINE_MAX < EXTENT_MAX
assert TID_RESERVE_US > FLUSH_SECONDS * 1_000_000  # whatever may be lost is younger than the reservation
assert HAND_OVER_SECONDS < FLUSH_SECONDS
assert OVERLAY_RECORDS < REPLAY_RECORDS_MAX
assert OVERLAY_BYTES <= REPLAY_BYTES_MAX
assert EXTENT_MAX < WIRE_FRAME_MAX < WIRE_WINDOW
