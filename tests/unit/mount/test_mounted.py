"""Reading mountinfo, and the table of as-of nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gavel.limits import VIEW_NODES, VIEW_WAYS
from gavel.mount import mounted
from gavel.mount.views import FIRST, View, Views

LINES = """\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
40 22 0:50 / /mnt/a\\040b rw,nosuid shared:1 master:2 - fuse.gavel /vol/x\\134y rw,user_id=0
41 22 0:51 / /mnt/tmp rw - tmpfs tmpfs rw
42 41 0:52 / /mnt/tmp rw - fuse.gavel later rw
43 40 0:53 / /mnt/a\\040b/in rw - tmpfs tmpfs rw
"""


@pytest.fixture(autouse=True)
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(LINES)
    monkeypatch.setattr(mounted, "_MOUNTINFO", tmp_path / "mountinfo")


def test_finding_mounts() -> None:
    found = mounted.at("/mnt/a b")
    assert found == mounted.Mounted(40, "0:50", "/mnt/a b", "fuse.gavel", "/vol/x\\y", "rw,nosuid")
    topmost = mounted.at("/mnt/tmp/")
    assert topmost is not None and topmost.source == "later"
    assert mounted.at("/mnt") is None
    assert [one.number for one in mounted.ours()] == [40, 42]


def test_the_mount_that_holds_a_path() -> None:
    assert mounted.holding("/mnt/a b/deep/down") == mounted.at("/mnt/a b")
    assert mounted.holding("/mnt/a b/../a b") == mounted.at("/mnt/a b")
    assert mounted.holding("/mnt/a bc") is None
    assert mounted.holding("/mnt/a b/in/side") is None


def test_views_count_lookups() -> None:
    views = Views()
    file, directory = View(5, 100), View(6, 100)
    node = views.enter(file, 1, b"a", False)
    assert node >= FIRST and views[node] == file
    assert views.enter(file, 2, b"b", False) == node, "hard links are one node"
    first, second = (views.enter(directory, 1, name, True) for name in (b"a", b"b"))
    assert first != second, "a directory is one node for each way to it"
    views.forget(node, 1)
    assert views[node] == file
    views.forget(node, 1)
    with pytest.raises(OSError, match="no such node"):
        views[node]
    assert views.enter(file, 1, b"a", False) not in (node, first, second), "an id is never given again"
    views.forget(12345, 1)


def test_views_give_up_their_oldest_ways() -> None:
    views = Views()
    for at in range(1, VIEW_WAYS + 1):
        assert views.way(1, b"@@%d" % at) == []
    assert views.way(1, b"@@1") == [], "a known way is none more"
    assert views.way(1, b"@@0") == [(1, b"@@%d" % at) for at in range(2, VIEW_WAYS // 2 + 2)], "the older half"
    assert views.way(1, b"@@-1") == []


def test_a_full_table_of_views_gives_up_older_ways_and_not_the_newest() -> None:
    views = Views()
    assert views.way(1, b"@@first") == []
    for obj in range(2, VIEW_NODES + 3):
        views.enter(View(obj, 7), 1, b"", False)
    assert views.way(1, b"@@first") == [], "it is the one in use"
    assert views.way(1, b"@@second") == [(1, b"@@first")]
    assert views.way(1, b"@@third") == [(1, b"@@second")]
