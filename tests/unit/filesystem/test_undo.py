import errno
from typing import cast

import pytest

from gavel.errors import BadRequest
from gavel.filesystem import acl, data, namespace, restore, undo
from gavel.filesystem.diff import diff
from gavel.filesystem.namespace import EXCHANGE
from gavel.limits import EXTENT_MAX, SLICE_RECORDS
from tests.unit.filesystem.engine_scenario import EngineScenario
from tests.unit.filesystem.scenario import ME, Scenario


@pytest.fixture(params=[Scenario, EngineScenario])
def fs(request: pytest.FixtureRequest) -> Scenario:
    fs = cast(Scenario, request.param())
    fs.mkdir("/d")
    fs.mkdir("/d/sub")
    fs.write("/d/f", b"f" * 1000)
    fs.write("/d/sub/g", b"g")
    fs.mkdir("/other")
    return fs


def same(fs: Scenario, at: int, top: str = "/d") -> bool:
    assert fs.listing(top=top) == fs.listing(at, top)
    assert diff(fs, top.encode(), at, fs.last_tid) == []
    return True


def test_a_changed_file(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.write("/d/f", b"F" * 300, offset=100)
    fs.chmod("/d/f", 0o600)
    fs.setxattr("/d/f", "user.a", b"1")
    changed = fs.last_tid
    assert fs.undo("/d/f", t0) == ["change /d/f written mode xattrs"]
    assert same(fs, t0)
    fs.undo("/d/f", changed)
    assert same(fs, changed)


def test_without_a_time_it_is_the_last_change(fs: Scenario) -> None:
    fs.write("/d/f", b"1")
    fs.write("/d/f", b"2")
    fs.write("/d/sub/g", b"g2")
    fs.undo("/d/f")
    assert fs.read("/d/f") == b"1"
    assert fs.read("/d/sub/g") == b"g2"
    fs.undo("/d/f")
    assert fs.read("/d/f") == b"2"


def test_undo_of_an_undo(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.remove("/d/f")
    gone = fs.last_tid
    assert fs.undo("/d/f") == ["restore /d/f"]
    assert fs.read("/d/f") == b"f" * 1000
    assert fs.undo("/d/f") == ["remove /d/f"]
    assert fs.listing().keys() == fs.listing(gone).keys()
    fs.undo("/d", t0)
    assert same(fs, t0)


def test_a_deleted_file_is_the_same_object_and_shares_its_data() -> None:
    fs = Scenario()
    fs.write("/f", b"f" * 1000)
    fs.setxattr("/f", "user.a", b"1")
    obj, t0 = fs.obj("/f"), fs.last_tid
    fs.remove("/f")
    fs.undo("/f")
    assert fs.obj("/f") == obj
    assert len(fs.stored) == 1
    assert fs.listing(top="/f") == fs.listing(t0, "/f")


def test_a_deleted_tree(fs: Scenario) -> None:
    fs.setxattr("/d/sub", "system.posix_acl_default", acl.encode(acl.decode(DEFAULT_ACL)))
    fs.symlink("/d/link", "anywhere")
    fs.link("/d/f", "/d/sub/f2")
    fs.chown("/d/sub/g", 77)
    t0 = fs.last_tid
    fs.remove("/d")
    assert fs.undo("/d", t0)[:2] == ["restore /d", "restore /d/f"]
    assert same(fs, t0)
    assert same(fs, t0, "/other")


DEFAULT_ACL = bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000500ffffffff".replace(" ", ""))


def test_missing_parents_come_back_alone(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.remove("/d")
    restored = ["restore /d", "restore /d/sub", "restore /d/sub/g"]
    assert fs.undo("/d/sub/g") == [*restored, "change /d/sub times", "change /d times"]
    assert fs.listing(top="/d/sub") == fs.listing(t0, "/d/sub")
    assert sorted(fs.listing()) == ["/", "/d", "/d/sub", "/d/sub/g", "/other"]


def test_into_a_directory_that_was_made_anew(fs: Scenario) -> None:
    content = fs.read("/d/f")
    fs.remove("/d")
    fs.mkdir("/d")
    assert fs.undo("/d/f") == ["restore /d/f"]
    assert fs.read("/d/f") == content


def test_a_directory_that_was_made_anew_is_replaced(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.remove("/d")
    fs.mkdir("/d")
    fs.mkdir("/d/sub")
    fs.write("/d/sub/new", b"n")
    fs.undo("/d", t0)
    assert same(fs, t0)


def test_a_parent_that_is_a_file_now(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.remove("/d")
    fs.write("/d", b"file")
    with pytest.raises(BadRequest, match="/d was a directory then and is none now; undo /d first"):
        fs.undo("/d/f", t0)
    fs.undo("/d", t0)
    assert same(fs, t0)


def test_what_is_new_goes(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.mkdir("/d/new")
    fs.mkdir("/d/new/deep")
    fs.write("/d/new/deep/x", b"x")
    fs.write("/d/y", b"y")
    plan = fs.undo("/d", t0)
    assert plan[0] == "remove /d/new/deep/x"
    assert sorted(plan[1:]) == ["change /d times", "remove /d/new", "remove /d/new/deep", "remove /d/y"]
    assert same(fs, t0)


def test_a_new_path_is_removed(fs: Scenario) -> None:
    fs.mkdir("/new")
    fs.write("/new/x", b"x")
    fs.write("/late", b"x")
    fs.undo("/late")
    fs.undo("/new", fs.created_tid)
    assert "/new" not in fs.listing()
    assert "/late" not in fs.listing()


def test_renames_within(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.move("/d/f", "/d/sub/f")
    fs.move("/d/sub", "/d/bus")
    fs.write("/d/bus/f", b"more")
    plan = fs.undo("/d", t0)
    assert plan[:2] == ["move /d/bus/f -> /d/f", "move /d/bus -> /d/sub"]
    assert same(fs, t0)


def test_renames_out_of_the_tree_and_into_it(fs: Scenario) -> None:
    fs.write("/other/x", b"x")
    fs.mkdir("/other/dir")
    t0 = fs.last_tid
    fs.move("/d/sub", "/other/sub")
    fs.write("/other/sub/new", b"n")
    fs.move("/other/x", "/d/x")
    fs.move("/other/dir", "/d/dir")
    plan = fs.undo("/d", t0)
    assert "move /d/x -> /other/x" in plan
    assert "move /other/sub -> /d/sub" in plan
    assert same(fs, t0)
    assert fs.listing(top="/other").keys() == fs.listing(t0, "/other").keys()


def test_what_came_from_elsewhere_and_cannot_go_back(fs: Scenario) -> None:
    fs.write("/other/x", b"x")
    t0 = fs.last_tid
    fs.move("/other/x", "/d/x")
    fs.write("/other/x", b"another")
    with pytest.raises(BadRequest, match="/d/x was /other/x then, where it cannot go back to"):
        fs.undo("/d", t0)
    fs.undo("/", t0)
    assert same(fs, t0, "/other")
    assert same(fs, t0, "/d")


def test_from_inside_a_new_directory(fs: Scenario) -> None:
    fs.write("/other/x", b"x")
    t0 = fs.last_tid
    fs.mkdir("/d/new")
    fs.move("/d/sub", "/d/new/sub")
    fs.move("/other/x", "/d/new/x")
    fs.undo("/d", t0)
    assert same(fs, t0)
    assert fs.read("/other/x") == b"x"


def test_cycles(fs: Scenario) -> None:
    fs.write("/d/a", b"a")
    t0 = fs.last_tid
    fs.move("/d/f", "/d/a", EXCHANGE)
    fs.move("/d/sub", "/d/f", EXCHANGE)
    fs.undo("/d", t0)
    assert same(fs, t0)


def test_inside_out(fs: Scenario) -> None:
    fs.mkdir("/d/sub/deep")
    t0 = fs.last_tid
    fs.move("/d/sub/deep", "/d/deep")
    fs.move("/d/sub", "/d/deep/sub")
    fs.undo("/d", t0)
    assert same(fs, t0)


def test_a_renamed_file_by_its_new_path(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.move("/d/f", "/other/f2")
    fs.write("/other/f2", b"new")
    assert fs.undo("/other/f2", t0) == ["move /other/f2 -> /d/f", "change /d/f written"]
    assert fs.listing(top="/d/f") == fs.listing(t0, "/d/f")


def test_saved_by_renaming(fs: Scenario) -> None:
    fs.save("/d/f", b"second")
    fs.write("/d/f.tmp", b"third")
    t0 = fs.last_tid
    fs.move("/d/f.tmp", "/d/f")
    assert fs.undo("/d/f") == ["restore /d/f", "move /d/f -> /d/f.tmp"]
    assert fs.read("/d/f") == b"second"
    assert fs.read("/d/f.tmp") == b"third"
    fs.undo("/d", t0)
    assert same(fs, t0)


def test_replaced_by_a_new_file(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.save("/d/f", b"second")
    assert fs.undo("/d/f", t0) == ["restore /d/f", "remove /d/f"]
    assert fs.read("/d/f") == b"f" * 1000
    fs.undo("/d", t0)
    assert same(fs, t0)


def test_hard_links(fs: Scenario) -> None:
    fs.link("/d/f", "/d/sub/f2")
    fs.link("/d/f", "/other/f3")
    t0 = fs.last_tid
    fs.remove("/d/f")
    fs.write("/other/f3", b"changed")
    fs.link("/other/f3", "/d/f4")
    fs.undo("/d", t0)
    assert same(fs, t0)
    assert fs.obj("/other/f3") == fs.obj("/d/f")
    fs.remove("/d/f")
    fs.remove("/d/sub/f2")
    fs.remove("/other/f3")
    fs.undo("/d", t0)
    assert fs.read("/d/sub/f2") == b"f" * 1000
    assert fs.listing(top="/d/f")["/d/f"][2] == 2


def test_open_when_deleted() -> None:
    fs = Scenario(reap=False)
    fs.write("/f", b"x" * 1000)
    obj = fs.obj("/f")
    t0 = fs.last_tid
    fs.remove("/f")
    fs.run(data.write, obj, 500, b"late" * 500)
    fs.undo("/f", t0)
    assert fs.listing(top="/f") == fs.listing(t0, "/f")


def test_a_large_file_comes_back_in_bounded_slices(fs: Scenario) -> None:
    for number in range(1000):
        fs.write("/d/big", b"x" * 300, offset=number * 1000 + 1)
    t0 = fs.last_tid
    fs.write("/d/big", b"y" * EXTENT_MAX, offset=100_000)
    fs.truncate("/d/big", 700_000)
    fs.undo("/d/big", t0)
    assert same(fs, t0)
    fs.remove("/d/big")
    plan = undo.plan(fs, b"/d/big")
    pieces = list(restore.slices(fs, plan))
    assert len(pieces) > 3
    assert sum(piece.actions for piece in pieces) == len(plan.actions)
    for piece in pieces:
        tx = fs.begin()
        piece(tx)
        assert len(tx.writes) <= SLICE_RECORDS
        fs.do(piece)
    assert same(fs, t0, "/d/big")


def test_many_files_come_back_in_bounded_slices(fs: Scenario) -> None:
    for number in range(300):
        fs.write(f"/d/{number}", b"x" * number)
    t0 = fs.last_tid
    fs.remove("/d")
    plan = undo.plan(fs, b"/d", t0)
    pieces = list(restore.slices(fs, plan))
    assert len(pieces) > 5
    fs.do(pieces[0])
    partly = fs.listing()
    assert len(partly) < 300
    fs.undo("/d", t0)  # a new plan does the rest
    assert same(fs, t0)


def test_a_plan_changes_nothing(fs: Scenario) -> None:
    fs.remove("/d")
    before = fs.listing()
    assert [action.kind for action in undo.plan(fs, b"/d/f").actions] == ["restore", "restore", "change"]
    assert fs.listing() == before


def test_nothing_to_do(fs: Scenario) -> None:
    assert fs.undo("/d", fs.last_tid) == []


def test_nothing_to_go_back_to(fs: Scenario) -> None:
    with pytest.raises(OSError) as caught:
        undo.plan(fs, b"/nothing")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(OSError) as caught:
        undo.plan(fs, b"/nothing", fs.last_tid)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(BadRequest, match="nothing to undo"):
        undo.plan(Scenario(), b"/")


def test_somebody_works_there_meanwhile(fs: Scenario) -> None:
    t0 = fs.last_tid
    fs.mkdir("/d/new")
    fs.remove("/d/f")
    plan = undo.plan(fs, b"/d", t0)
    fs.write("/d/new/kept", b"kept")
    fs.write("/d/f", b"in the way")
    for piece in restore.slices(fs, plan):
        fs.do(piece)
    assert fs.read("/d/f") == b"f" * 1000
    assert fs.read("/d/new/kept") == b"kept"


def test_somebody_takes_the_directory_away(fs: Scenario) -> None:
    fs.remove("/d/f")
    plan = undo.plan(fs, b"/d/f")
    fs.remove("/d")
    (piece,) = restore.slices(fs, plan)
    with pytest.raises(BadRequest, match="/d/f was changed by somebody while the undo was under way"):
        fs.do(piece)


def test_trees_deeper_than_python_recurses() -> None:
    fs = Scenario()
    parent = fs.obj("")
    t0 = fs.last_tid
    for _ in range(1050):
        parent, _ = fs.run(namespace.mkdir, parent, b"x", 0o755, ME)
    deep = fs.last_tid
    fs.undo("/x", t0)
    assert fs.listing().keys() == {"/"}
    assert len(fs.undo("/x" * 1050, deep)) == 2 * 1050
