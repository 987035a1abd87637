"""The right to work on the cores: nested, not blocking, and who waits for it."""

from __future__ import annotations

import threading

from gavel.runtime.turn import Turn


def test_it_is_one_threads_at_a_time_and_counts() -> None:
    turn = Turn()
    taken: list[bool] = []

    def try_it() -> None:
        taken.append(turn.acquire(blocking=False))
        if taken[-1]:
            turn.release()

    with turn:
        with turn:
            in_thread(try_it)
        in_thread(try_it)
        assert turn.acquire(blocking=False)
        turn.release()
    in_thread(try_it)
    assert taken == [False, False, True]


def test_it_tells_whether_somebody_waits() -> None:
    turn = Turn()
    came = threading.Event()

    def want() -> None:
        with turn:
            came.set()

    with turn:
        assert not turn.wanted
        thread = threading.Thread(target=want)
        thread.start()
        while not turn.wanted:
            pass
        assert not came.is_set()
    thread.join()
    assert came.is_set()
    assert not turn.wanted


def in_thread(work: object) -> None:
    assert callable(work)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
