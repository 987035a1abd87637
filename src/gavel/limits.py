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
LOG_PENDING_MAX: Final = 256 * KIB  # frames or nodes kept in memory before the device gets them; a fraction of a ms
WITNESS_BIG_BLOCKS: Final = 64  # free big-blocks in which recovery looks for proof that a log end is rot, not a crash
SCRYPT_COST: Final = 16  # 64 MiB and a fifth of a second for each try of a passphrase
SCRYPT_COST_MAX: Final = 20  # 1 GiB; a header that asks for more is not believed
TRANSACTION_MAX: Final = 64 * MIB  # encoded records of one transaction, its data (staged ahead) not counted

# A checkpoint is due when any of these is passed. The first two are how much log recovery may have to replay.
REPLAY_BYTES_MAX: Final = 64 * MIB
REPLAY_RECORDS_MAX: Final = 65_536
DIRTY_NODES_MAX: Final = 96 * MIB  # nodes waiting in memory; a record in a leaf of its own dirties 16 KiB

# Memory.
NODE_CACHE_BYTES: Final = 72 * MIB  # encoded size of clean B-tree nodes kept decoded (resident: some three times that)
PASTS_MAX: Final = 8  # past states of which a client of a cluster holds records at a time
PLACES_LEAST: Final = 20_000  # extents that a client of a cluster knows before it looks which it may forget; some 5 MB
ATTEMPTS_MAX: Final = 1000  # runs of one operation on a cluster; each but the first means that others succeeded
HELD_BYTES: Final = 64 * MIB  # records that a client of a cluster keeps, what they cost in memory included
LEASED_DATA_BYTES: Final = 128 * MIB  # verified file data that a client with leases keeps
CLIENT_DIRTY_BYTES: Final = 32 * MIB  # dirty at a client with leases before a flush; one more may be on its way
AHEAD_BYTES: Final = 2 * MIB  # dirty file data that is sent ahead together; less is often overwritten soon
BUSY_PAUSE_NS: Final = 20_000_000  # before a transaction that met a lease is submitted anew
UNKNOWN_PAUSE_NS: Final = 500_000_000  # before a transaction without an answer is submitted again
EXTENT_CACHE_BYTES: Final = 16 * MIB  # verified file data kept for the next piece of a sequential read
OVERLAY_RECORDS: Final = 8192  # dirty records that make a flush due; bounds how long one flush holds the loop
OVERLAY_BYTES: Final = 64 * MIB  # staged file data that makes a flush due

# Time.
FLUSH_SECONDS: Final = 5  # without fsync at most this much is lost
TID_RESERVE_US: Final = 6_000_000  # tids a crash may have forgotten lie within this of the last durable one
SLICE_RECORDS: Final = 256  # work done between two looks at the event loop by checkpoint, undo, check and reap
NODE_READ_MAX: Final = 512 * KIB  # nodes read at once by those who read them all; some milliseconds of a slow disk
NODE_READ_GAP: Final = 64 * KIB  # bytes between two of them that are read, too: sooner read than sought past
SLICE_NODES: Final = 4  # nodes a checkpoint writes between two such looks; a sixth of a millisecond

# One operation.
COPY_RECORDS_MAX: Final = 4096  # data records one copy_file_range shares; half a gigabyte, then the caller goes on

# The mount.
FUSE_REQUEST_MAX: Final = 1 * MIB  # one read or write; the kernel's own limit unless fs.fuse.max_pages_limit is raised
READ_AHEAD: Final = 4 * MIB  # what the kernel may ask for ahead of a sequential reader; keeps the loop busy meanwhile
HAND_OVER_SECONDS: Final = 4  # how long data of open files stays in the kernel's cache alone; below FLUSH_SECONDS
VIEW_NODES: Final = 32_768  # as-of nodes the kernel may know before it is told to forget the older views; some 25 MB
VIEW_WAYS: Final = 1024  # names with `@@` it may know in the same sense
REAP_OBJECTS: Final = 32  # orphans deleted in one turn of the event loop; a millisecond or so
REAP_WAITING: Final = 10_000  # orphans that may wait for a quiet moment; more are deleted among the requests

SHARED_ORPHAN_SECONDS: Final = 86_400  # where others may have it open, what lost its last name is kept for so long
SHARED_REAP_SECONDS: Final = 600  # between two looks at what that has become of

# Upkeep.
JOB_RECORDS: Final = 64  # records looked at in one step of a job; a fraction of a millisecond
PRUNE_DESCENT: Final = 16  # records that a descent of prune counts for: the elements that it passes over take time, too
JOB_FLUSH_RECORDS: Final = 128  # records of others that a job flushes with its own; a millisecond or less
JOB_FETCH_BYTES: Final = 1 * MIB  # read ahead of the steps of a job, in another thread; some ten extents
JOB_DIRTY_MAX: Final = 8 * MIB  # nodes that a job leaves waiting in memory before it has them written
RETENTION_POINTS_MAX: Final = 6000  # states below the horizon that are kept; their tids are one record
RETENTION_SPAN_MAX: Final = 1000 * 365 * 86_400  # seconds; what a policy can say other than `forever`
VICTIMS_MAX: Final = 256 * MIB  # bytes that one pass of reblock moves
RECOVER_RECORDS: Final = 1_000_000  # records of old log frames that `gavel recover` holds; some 300 MB
DEDUP_LATELY: Final = 16_384  # extents in which a write looks for the same content; some 4 MB
DEDUP_SUMS: Final = 400_000  # extents that one pass of dedup remembers; some 100 MB

# The wire.
WIRE_GREETING_MAX: Final = 4 * KIB  # payload of a greeting or an error; all that is read of a peer not yet known
WIRE_FRAME_MAX: Final = 256 * KIB  # payload of a frame: a millisecond of a fast link, which a vote may have to wait
WIRE_MESSAGE_MAX: Final = TRANSACTION_MAX + 1 * MIB  # a message in several frames: the largest transaction, its head
WIRE_REQUESTS: Final = 256  # requests in flight on one connection; more than a mount's threads can ask at once
WIRE_BLOB_MAX: Final = EXTENT_MAX + 64  # file data sent ahead, with a few words about what it is
WIRE_WINDOW: Final = 4 * MIB  # file data sent ahead that the receiver has not taken yet; 20 ms at 200 MB/s
PING_BUSY_MS: Final = 50  # between two pings while somebody waits for the peer
PING_IDLE_MS: Final = 1000  # and while nobody does: a thousandth of a core for each link
LINK_DOUBT_MS: Final = 150  # an unanswered ping puts a link in doubt: another master is asked as well
LINK_DEAD_MS: Final = 2000  # and ends it: dialling anew is faster than what TCP waits between two tries by then
HEDGE_MS: Final = 400  # a request without an answer is asked of another master, too; far above a slow disk's sync
BACKOFF_MS: Final = 20  # first pause of a request that no master can take, doubled each round
BACKOFF_MAX_MS: Final = 1000  # and the longest one: what a master that comes back may have to wait for its clients
SESSION_TICK_MS: Final = 50  # how exactly a session keeps its times
LINK_BUFFER: Final = 512 * KIB  # bulk is handed to the kernel so far ahead; what a vote may find before it
LINK_BUFFER_MAX: Final = 2 * WIRE_MESSAGE_MAX  # what waits for a peer that does not read, then the link is given up
LINK_QUEUE_MAX: Final = 32 * MIB  # file data that waits for a slow peer; more is dropped, and asked for by it later
HANDSHAKE_SECONDS: Final = 5  # from a connection to both sides being welcome
DIAL_SECONDS: Final = 2  # one try to connect, TLS included; when a cut is mended TCP's own next try comes much later
DIAL_BACKOFF_MS: Final = 50  # first pause between two tries, doubled up to BACKOFF_MAX_MS
REFUSED_SECONDS: Final = 5  # pause after a peer has said that this side is not welcome
SPACE_SECONDS: Final = 2.0  # how old the sizes may be that `df` shows of a cluster's mount
PATIENCE_SECONDS: Final = 30  # default: how long a client waits for a quorum; beyond a restart, below a hung program

# Looking back.
DATA_CHANGES_MAX: Final = 4096  # data records looked at to tell a write from a truncation; with more it was written
LOG_CHANGES_MAX: Final = 20_000  # changes that `gavel log` holds in memory while it goes back in time, some 10 MB

# Objects.
OBJECT_ID_BLOCK: Final = 65_536  # ids reserved at a time; a crash wastes at most this many of 2**63
OBJECT_ID_MAX: Final = 2**63 - 1  # the top bit marks the mount's node ids of as-of views

# A cluster's requests.
WRITE_TOGETHER: Final = 4 * MIB  # written through a file object in one transaction: its syncs take the time of 1 MiB
RECORD_MAX: Final = 128 * KIB  # bytes of a record's value that a client may write; an xattr's and what else there is
BODY_INLINE_MAX: Final = 16 * KIB  # of a transaction in a vote; longer ones are staged, so that no vote takes long
STAGED_LIFE_NS: Final = 300 * 10**9  # what is staged and in no transaction's way is dropped; ten lives of a register
WANT_NS: Final = 20 * 10**6  # file data that a vote names and that has not come by then is asked for; doubles 6 times
ANSWER_BYTES: Final = 512 * KIB  # records or file data in one answer; holds the loop for a few milliseconds
OVERTAKEN_BYTES: Final = 32 * KIB  # records that tell one who collided what has changed; the rest it asks for
CATCH_UP_STEP: Final = 1000  # changes looked at in one call while they are put in order; a millisecond
CATCH_UP_WINDOW: Final = 80_000  # changes put in order at a time, 30 MB to twice that; more memory, or more walks

# Transactions.
TRANSACTION_RETRIES: Final = 16  # default of fs.run(); each retry means that somebody else succeeded

# The quorum.
MEMBERS_MAX: Final = 16  # nodes in an epoch, slaves too; what a person can look after, and a vouch to each costs
BODY_MAX: Final = 768 * KIB  # of a transaction; data goes ahead as blobs. A promise is one log frame with it
BATCH_MAX: Final = 4 * MIB  # one peer's batch; larger ones are split
BATCH_AIM: Final = 1 * MIB  # bytes of bodies after which another batch is begun
PAGE_AIM: Final = 128 * KIB  # of entries in one record of the ledger; a single one may be larger, by its body
PIECE_AIM: Final = 256 * KIB  # of catching up; small enough that votes pass between two pieces
CATCH_UP_AHEAD: Final = 4  # pieces on their way to one who catches up; so both sides work at the same time
CATCH_UP_LEAST: Final = 4  # MiB a second that are given however busy the masters are, so that catching up ends
VOUCH_ITEMS_MAX: Final = 8192  # in one batch; some 400 KB
KNOWN_MAX: Final = 8192  # decisions in one piece of catching up; some 350 KB
REGISTERS_KEPT: Final = 100_000  # for a voter that is away; some 75 MB, and 8 MB of each checkpoint
UNDECIDED_MAX: Final = 8192  # registers open at once, so that a start record that carries them is one frame
CARRY_RECENT: Final = 2048  # decisions below its watermark that a sealed voter tells of, a second of them; 90 KB
TRANSACTION_LIFE_US: Final = 30_000_000  # after its birth, in which a transaction may be proposed
CLOCK_RESERVE_US: Final = 3_000_000  # how far ahead of the clock is reserved; what a restart skips
CLOCK_RENEW_US: Final = 1_500_000  # reserve again when less than this is left
CLOCK_OFF_US: Final = 60_000_000  # a wall clock this far off the median is reported and not followed
HEARTBEAT_MS: Final = 1000  # a batch to every member at least as often; also bounds how old a forgotten register gets
VOUCH_MS: Final = 20  # a vouch at least as often while something is undecided
TICK_MS: Final = 10  # how often takeovers are looked for while something is undecided
TAKEOVER_MIN_MS: Final = 10  # a link's loss is noticed before its last messages have been looked at
TAKEOVER_MAX_MS: Final = 120  # a silent coordinator with its link up; thrice this is less than a gap that users notice
TAKEOVER_WORST_MS: Final = 2000  # delays double up to here while attempts fail
RESEAL_MS: Final = 300  # a seal without a start record for so long is finished by another
PATIENCE_MS: Final = 10_000  # without a majority a request fails after this; beyond any takeover

# Leases.
LEASE_TERM_NS: Final = 2 * 10**9  # how long a dead client can be in the way of others
LEASE_DRIFT: Final = 50  # clocks run at most one part in so many too fast or slow: 2 %
LEASE_RENEWALS: Final = 3  # keep-alives in a term; two may be lost
LEASE_WORK_NS: Final = 30 * 10**9  # a client that says it is flushing is waited for so long; beyond any takeover
LEASE_KEY_MAX: Final = 1024  # bytes; any record key fits, and what a client may make a master remember is bounded
LEASE_WANTS_MAX: Final = 512  # ranges in one ask; one operation never needs more than a listing's worth
LEASE_MESSAGE_MAX: Final = 2 * MIB  # lease messages of one drain
LEASE_RANGES_MAX: Final = 4096  # of one session at a master, some 1 MB; more are asked back
LEASE_TOTAL_MAX: Final = 65_536  # of all sessions at a master, some 16 MB
LEASE_ASKS_MAX: Final = 256  # of one session that wait at a master
LEASE_FRAMES_SECOND: Final = 4000  # taken of one link; what comes beyond is lost. Two clients in turn need a quarter
LEASE_SESSIONS_MAX: Final = 4096  # known to a master at once

assert BODY_MAX + PAGE_AIM < FRAME_MAX
assert BATCH_AIM + BODY_MAX < BATCH_MAX
assert CLOCK_RENEW_US < CLOCK_RESERVE_US
assert HEARTBEAT_MS * 1000 < CLOCK_RENEW_US
assert PATIENCE_MS * 1000 < TRANSACTION_LIFE_US
assert TAKEOVER_WORST_MS < PATIENCE_MS
assert FRAME_MAX < BIG_BLOCK // 2  # a frame never needs more than one fresh big-block
assert EXTENT_MAX < FRAME_MAX
assert INLINE_MAX < EXTENT_MAX
assert TID_RESERVE_US > FLUSH_SECONDS * 1_000_000  # whatever may be lost is younger than the reservation
assert EXTENT_MAX < WIRE_FRAME_MAX < WIRE_WINDOW
assert PING_BUSY_MS < LINK_DOUBT_MS < LINK_DEAD_MS < PATIENCE_SECONDS * 1000
assert HAND_OVER_SECONDS < FLUSH_SECONDS
assert OVERLAY_RECORDS < REPLAY_RECORDS_MAX
assert OVERLAY_BYTES <= REPLAY_BYTES_MAX
