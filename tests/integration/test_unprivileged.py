"""Mounting as an ordinary user, through fusermount3: what every other test here, running as root, passes by.

Needs root to become somebody else, fusermount3 (package fuse3), and an interpreter that anybody may run. Where
/dev/fuse is root's alone, as in some containers, the story plays in a mount namespace with one that is not.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mount_daemon import needs_mount

ROOT = Path(__file__).resolve().parents[2]
WHO = "nobody"

pytestmark = [
    needs_mount,
    pytest.mark.mounts,
    pytest.mark.skipif(shutil.which("fusermount3") is None, reason="fusermount3 is not installed (package fuse3)"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"),
]

# In a namespace of its own: a /dev/fuse for everybody, then on as the user.
SETTING = """
set -e
mknod -m 666 "$BASE/fuse" c 10 229
mount --bind "$BASE/fuse" /dev/fuse
exec setpriv --reuid="$WHO" --regid="$GROUP" --clear-groups sh -ec "$STORY"
"""

STORY = """
cd "$BASE/home"
gavel() { "$PYTHON" -m gavel "$@"; }
gavel mkfs disk.gavel --size 128M
gavel mount disk.gavel mnt
grep " $BASE/home/mnt fuse.gavel .*user_id=$(id -u)" /proc/mounts
echo one > mnt/f
tid=$(gavel tid mnt)
echo two > mnt/f
test "$(cat "mnt/f@@$tid")" = one
test "$(stat -c %U mnt/f)" = "$WHO"
if gavel mount disk.gavel mnt; then exit 1; fi
gavel umount mnt
test ! -e mnt/f
gavel mount disk.gavel mnt --read-only
test "$(cat mnt/f)" = two
if touch mnt/g; then exit 1; fi
gavel umount mnt
gavel mount disk.gavel mnt
echo three > mnt/g
sync mnt/g
pid=$(gavel info mnt --json | sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')
kill -9 "$pid"
if ls mnt; then exit 1; fi
gavel mount disk.gavel mnt
test "$(cat mnt/g)" = three
gavel umount mnt
gavel check --deep disk.gavel
echo the end
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that others may enter, with a home for the user in it; pytest's own are private."""
    base = Path(tempfile.mkdtemp(prefix="gavel-test-"))
    base.chmod(0o755)
    (base / "home" / "mnt").mkdir(parents=True)
    for path in (base / "home", base / "home" / "mnt"):
        shutil.chown(path, WHO)
    try:
        yield base
    finally:
        subprocess.run(["umount", "-l", str(base / "home" / "mnt")], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(base)


def setting(base: Path) -> dict[str, str]:
    """The environment of the story; skips where no interpreter will do."""
    user = pwd.getpwnam(WHO)
    libraries = [str(ROOT / "src"), *(path for path in sys.path if path.endswith("-packages"))]
    environment = {
        "PATH": os.defpath + ":/usr/sbin:/sbin", "HOME": str(base / "home"), "TMPDIR": str(base / "home"),
        "PYTHONPATH": os.pathsep.join(libraries), "PYTHONDONTWRITEBYTECODE": "1",
        "BASE": str(base), "WHO": WHO, "GROUP": str(user.pw_gid), "STORY": STORY,
    }  # fmt: skip
    version = f"python3.{sys.version_info.minor}"
    for python in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin"), None):
        if python is None:
            pytest.skip(f"{WHO} may run no {version} here")
        become = ["setpriv", f"--reuid={WHO}", f"--regid={user.pw_gid}", "--clear-groups"]
        trial = [*become, "sh", "-c", f"'{python}' -c 'import gavel.node.launch'"]
        if subprocess.run(trial, env=environment, cwd="/", capture_output=True, check=False).returncode == 0:
            return {**environment, "PYTHON": python}
    raise AssertionError


def test_a_day_of_an_ordinary_user(base: Path) -> None:
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SETTING]
    done = subprocess.run(command, env=setting(base), cwd="/", capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("the end\n")
    assert "Traceback" not in done.stderr
