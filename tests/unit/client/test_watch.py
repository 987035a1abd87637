"""Watching a tree."""

import threading

from gavel.client.fs import Fs
from gavel.client.results import Change


def test_changes_come_as_they_are_committed(fs: Fs) -> None:
    fs.makedirs("t")
    with fs.watch("t", timeout=0) as watch:
        assert list(watch) == []
        fs.write_text("t/a", "x")
        fs.write_text("other", "x")
        assert list(watch) == [], "not committed yet"
        first = fs.sync()
        fs.write_text("other", "y")
        fs.sync()
        fs.rename("t/a", "t/b")
        fs.remove("other")
        second = fs.sync()
        assert list(watch) == [
            Change(first, ("/t/a",), (("created",),)),
            Change(second, ("/t/b",), (("renamed",),)),
        ]


def test_a_watch_resumes_where_one_left_off(fs: Fs) -> None:
    fs.write_text("a", "1")
    first = fs.sync()
    fs.write_text("a", "2")
    second = fs.sync()
    assert [change.tid for change in fs.watch(since=first, timeout=0)] == [second]
    assert [change.tid for change in fs.watch(timeout=0)] == []


def test_transactions_are_told_at_once(fs: Fs) -> None:
    with fs.watch(timeout=0) as watch:
        with fs.transaction() as tx:
            tx.write_text("a", "x")
            tx.mkdir("d")
        (change,) = watch
    assert (change.tid, change.paths) == (tx.tid, ("/a", "/d"))


def test_waiting_in_another_thread_and_closing(fs: Fs) -> None:
    seen: list[Change] = []
    told = threading.Event()
    watch = fs.watch()

    def wait() -> None:
        for change in watch:
            seen.append(change)
            told.set()

    thread = threading.Thread(target=wait)
    thread.start()
    fs.write_text("a", "x")
    tid = fs.sync()
    assert told.wait(30)
    watch.close()
    thread.join(30)
    assert not thread.is_alive()
    assert [change.tid for change in seen] == [tid]


def test_a_tree_that_comes_later_and_goes(fs: Fs) -> None:
    with fs.watch("late", timeout=0) as watch:
        fs.write_text("a", "x")
        fs.sync()
        assert list(watch) == []
        fs.mkdir("late")
        fs.sync()
        fs.rmdir("late")
        fs.sync()
        assert [change.kinds for change in watch] == [(("created",),), (("deleted",),)]


def test_closing_the_volume_ends_its_watches(fs: Fs) -> None:
    watch = fs.watch()
    fs.close()
    assert watch.closed and list(watch) == []
