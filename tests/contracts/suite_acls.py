"""POSIX ACLs: validity, how they and the mode follow each other, and inheritance."""

from __future__ import annotations

import errno
import stat

import pytest

from tests.contracts.adapter import Adapter, fails, need
from tests.contracts.model import GROUP, MASK, NAMED_GROUP, OTHER, OWNER, USER, Acl, pack_acl, unpack_acl

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
NOBODY = 0xFFFFFFFF


def acl(text: str) -> bytes:
    """An ACL from a short text: "u:rwx u1000:rw- g:r-- g50:r-- m:rw- o:---"."""
    entries: Acl = []
    for part in text.split():
        who, perms = part.split(":")
        number = int(who[1:]) if who[1:] else NOBODY
        tag = {"u": OWNER, "g": GROUP, "m": MASK, "o": OTHER}[who[0]]
        if number != NOBODY:
            tag = {OWNER: USER, GROUP: NAMED_GROUP}[tag]
        entries.append((tag, sum(bit for bit, letter in zip((4, 2, 1), perms, strict=True) if letter != "-"), number))
    return pack_acl(entries)


NAMED = "u:rwx u1000:rw- g:r-x m:rw- o:r--"


class Acls:
    def test_an_access_acl_sets_the_mode(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mknod("a", 0o6600)
        fs.setxattr("a", ACCESS, acl(NAMED))
        assert fs.stat("a").mode & 0o7777 == 0o6764
        assert fs.getxattr("a", ACCESS) == acl(NAMED)
        assert fs.listxattr("a") == [ACCESS]

    def test_an_acl_that_only_says_the_mode_is_not_kept(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mknod("a", 0o600)
        fs.setxattr("a", ACCESS, acl(NAMED))
        fs.setxattr("a", ACCESS, acl("u:r-- g:-w- o:--x"))
        assert fs.stat("a").mode & 0o7777 == 0o421
        assert fs.listxattr("a") == []
        with fails(errno.ENODATA):
            fs.getxattr("a", ACCESS)

    def test_a_mask_without_named_entries_is_kept(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mknod("a", 0o600)
        fs.setxattr("a", ACCESS, acl("u:rw- g:rwx m:r-- o:---"))
        assert fs.stat("a").mode & 0o777 == 0o640
        fs.chmod("a", 0o770)
        assert fs.getxattr("a", ACCESS) == acl("u:rwx g:rwx m:rwx o:---")

    @pytest.mark.parametrize("mode", [0o000, 0o640, 0o777, 0o7153])
    def test_chmod_changes_the_mask(self, fs: Adapter, mode: int) -> None:
        need(fs, "acl")
        fs.mknod("a", 0o600)
        fs.setxattr("a", ACCESS, acl(NAMED))
        fs.chmod("a", mode)
        assert fs.stat("a").mode & 0o7777 == mode
        entries = {(tag, who): perm for tag, perm, who in unpack_acl(fs.getxattr("a", ACCESS))}
        assert entries == {
            (OWNER, NOBODY): mode >> 6 & 7,
            (USER, 1000): 6,
            (GROUP, NOBODY): 5,
            (MASK, NOBODY): mode >> 3 & 7,
            (OTHER, NOBODY): mode & 7,
        }

    def test_removing_leaves_the_mode(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mknod("a", 0o600)
        fs.setxattr("a", ACCESS, acl(NAMED))
        fs.removexattr("a", ACCESS)
        assert fs.stat("a").mode & 0o777 == 0o764
        assert fs.listxattr("a") == []
        fs.chmod("a", 0o640)
        assert fs.listxattr("a") == []

    def test_removing_what_is_not_there_is_no_error(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mknod("a", 0o600)
        fs.mkdir("d")
        before = fs.stat("a"), fs.stat("d")
        fs.tick()
        fs.removexattr("a", ACCESS)
        fs.removexattr("d", DEFAULT)
        fs.removexattr("a", DEFAULT)
        fs.setxattr("d", DEFAULT, b"")
        assert (fs.stat("a"), fs.stat("d")) == before

    def test_an_empty_acl_removes(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mkdir("d")
        fs.setxattr("d", DEFAULT, acl(NAMED))
        fs.setxattr("d", DEFAULT, pack_acl([]))
        assert fs.listxattr("d") == []
        fs.setxattr("d", DEFAULT, acl(NAMED))
        fs.setxattr("d", DEFAULT, b"")
        assert fs.listxattr("d") == []
        fs.setxattr("d", ACCESS, acl(NAMED))
        fs.setxattr("d", ACCESS, pack_acl([]))
        assert fs.listxattr("d") == []
        assert fs.stat("d").mode & 0o777 == 0o764

    @pytest.mark.parametrize(
        "value",
        [
            b"\2\0\0",
            b"\2\0\0\0\1",
            acl("u:rwx g:rwx"),
            acl("u:rwx o:rwx"),
            acl("g:rwx o:rwx"),
            acl("g:rwx u:rwx o:rwx"),
            acl("u:rwx u:rwx g:rwx o:rwx"),
            acl("u:rwx u1:rwx g:rwx o:rwx"),
            acl("u:rwx g:rwx g1:rwx o:rwx"),
            acl("u:rwx g:rwx o:rwx m:rwx"),
            acl("u:rwx g:rwx m:rwx m:rwx o:rwx"),
            acl("u:rwx g:rwx g1:rwx u1:rwx m:rwx o:rwx"),
            pack_acl([(OWNER, 8, NOBODY), (GROUP, 7, NOBODY), (OTHER, 7, NOBODY)]),
            pack_acl([(OWNER, 7, NOBODY), (GROUP, 7, NOBODY), (64, 7, NOBODY), (OTHER, 7, NOBODY)]),
            pack_acl([(OWNER, 7, 0), (USER, 7, NOBODY), (GROUP, 7, 0), (MASK, 7, 0), (OTHER, 7, 0)]),
        ],
    )
    def test_what_is_no_acl(self, fs: Adapter, value: bytes) -> None:
        need(fs, "acl")
        fs.mkdir("d", 0o750)
        for name in (ACCESS, DEFAULT):
            with fails(errno.EINVAL):
                fs.setxattr("d", name, value)
        assert fs.listxattr("d") == []
        assert fs.stat("d").mode & 0o777 == 0o750

    def test_another_version(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mkdir("d")
        with fails(errno.EOPNOTSUPP):
            fs.setxattr("d", ACCESS, b"\3" + acl(NAMED)[1:])

    def test_ids_of_unnamed_entries_mean_nothing(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mknod("a", 0o600)
        entries = [(tag, perm, who if tag == USER else 17) for tag, perm, who in unpack_acl(acl(NAMED))]
        fs.setxattr("a", ACCESS, pack_acl(entries))
        assert fs.getxattr("a", ACCESS) == acl(NAMED)

    def test_where_no_acl_can_be(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.symlink("x", "s")
        fs.mknod("a", 0o644)
        fs.mknod("p", stat.S_IFIFO | 0o600)
        for name in (ACCESS, DEFAULT):
            with fails(errno.EOPNOTSUPP):
                fs.setxattr("s", name, acl(NAMED))
            with fails(errno.EOPNOTSUPP):
                fs.getxattr("s", name)
            with fails(errno.EOPNOTSUPP):
                fs.removexattr("s", name)
        for path in ("a", "p"):
            with fails(errno.EACCES):
                fs.setxattr(path, DEFAULT, acl(NAMED))
        fs.setxattr("p", ACCESS, acl(NAMED))
        assert fs.stat("p").mode & 0o777 == 0o764

    def test_a_default_acl_says_nothing_about_the_directory_itself(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mkdir("d", 0o700)
        fs.setxattr("d", DEFAULT, acl("u:--- g:rwx o:rwx"))
        assert fs.stat("d").mode & 0o7777 == 0o700
        assert fs.listxattr("d") == [DEFAULT]
        assert fs.getxattr("d", DEFAULT) == acl("u:--- g:rwx o:rwx")
        fs.chmod("d", 0o711)
        assert fs.getxattr("d", DEFAULT) == acl("u:--- g:rwx o:rwx")

    def test_inheritance_with_named_entries(self, fs: Adapter) -> None:
        need(fs, "acl", "umask")
        fs.umask(0o077)
        fs.mkdir("d")
        fs.setxattr("d", DEFAULT, acl("u:rwx u1000:rwx g:r-x m:rwx o:r-x"))
        fs.mknod("d/a", 0o644)
        assert fs.getxattr("d/a", ACCESS) == acl("u:rw- u1000:rwx g:r-x m:r-- o:r--")
        assert fs.stat("d/a").mode & 0o777 == 0o644
        assert fs.listxattr("d/a") == [ACCESS]
        fs.mkdir("d/e", 0o770)
        assert fs.getxattr("d/e", ACCESS) == acl("u:rwx u1000:rwx g:r-x m:rwx o:---")
        assert fs.getxattr("d/e", DEFAULT) == fs.getxattr("d", DEFAULT)
        assert fs.stat("d/e").mode & 0o777 == 0o770
        assert sorted(fs.listxattr("d/e")) == [ACCESS, DEFAULT]
        fs.mknod("d/e/p", stat.S_IFIFO | 0o666)
        assert fs.stat("d/e/p").mode & 0o777 == 0o664
        fs.symlink("x", "d/s")
        assert fs.listxattr("d/s") == []
        assert fs.stat("d/s").mode & 0o777 == 0o777

    def test_inheritance_without_named_entries(self, fs: Adapter) -> None:
        need(fs, "acl", "umask")
        fs.umask(0o077)
        fs.mkdir("d")
        fs.setxattr("d", DEFAULT, acl("u:rwx g:r-x o:r--"))
        fs.mknod("d/a", 0o666)
        assert fs.stat("d/a").mode & 0o777 == 0o644
        assert fs.listxattr("d/a") == []
        fs.mkdir("d/e", 0o777)
        assert fs.stat("d/e").mode & 0o777 == 0o754
        assert fs.listxattr("d/e") == [DEFAULT]

    def test_inheritance_with_setgid(self, fs: Adapter) -> None:
        need(fs, "acl", "owners")
        fs.mkdir("d")
        fs.chown("d", 0, 77)
        fs.chmod("d", 0o2775)
        fs.setxattr("d", DEFAULT, acl("u:rwx g50:rwx g:r-x m:rwx o:---".replace("g50:rwx g:r-x", "g:r-x g50:rwx")))
        fs.mkdir("d/e", 0o777)
        found = fs.stat("d/e")
        assert (found.gid, found.mode & 0o7777) == (77, 0o2770)

    def test_what_is_moved_in_inherits_nothing(self, fs: Adapter) -> None:
        need(fs, "acl")
        fs.mkdir("d")
        fs.setxattr("d", DEFAULT, acl(NAMED))
        fs.mknod("a", 0o600)
        fs.link("a", "d/b")
        fs.rename("a", "d/a")
        assert fs.listxattr("d/a") == []
        assert fs.stat("d/a").mode & 0o777 == 0o600
