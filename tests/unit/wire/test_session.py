"""A client's session: one answer for each request, whatever becomes of masters; blobs before what needs them."""

from __future__ import annotations

from random import Random

import pytest

from gavel.effects import Arm, PeerDown, PeerUp, Received, Reply, Requested, Send, Ticked
from gavel.errors import BadRequest, Collision, QuorumLost, VolumeFull
from gavel.limits import BACKOFF_MS, HEDGE_MS
from gavel.wire import failures
from gavel.wire.connection import Answered, Credited, Ended, Farewelled, Opened
from gavel.wire.messages import Greeting, Role, Status
from gavel.wire.session import Ask, Blob, Question, Session, Stage, Unstage

MS = 1_000_000
PATIENCE = 10_000


class Bench:
    """A session, and the masters played by the test. `sent` has (master, question or blob) since the last look."""

    def __init__(self, masters: int = 3, up: tuple[int, ...] = (0, 1, 2), requests: int = 8, window: int = 100) -> None:
        self.session = Session(masters, PATIENCE, lambda bound: 0)
        self.now, self.armed = 0, 0
        self.requests, self.window = requests, window
        self._sent: list[tuple[int, Question | Blob]] = []
        self.replies: list[tuple[object, object]] = []
        for master in up:
            self.open(master)

    def step(self, event: object) -> None:
        self.session.step(event, self.now)  # type: ignore[arg-type]
        for effect in self.session.drain():
            match effect:
                case Send(peer, message):
                    self._sent.append((peer, message))
                case Reply(ask, result):
                    self.replies.append((ask.ticket, bytes(result) if isinstance(result, bytes) else result))
                case Arm(at):
                    self.armed = at

    def open(self, master: int) -> None:
        peer = Greeting(1, 2, 2, bytes(16), master + 1, bytes(16), Role.MASTER, self.window, self.requests)
        self.step(Received(master, Opened(peer)))

    def ask(self, ticket: str, *needs: bytes) -> None:
        self.step(Requested(Ask(ticket, ticket.encode(), needs)))

    def answer(self, master: int, seq: int, status: Status = Status.DONE, body: bytes = b"done") -> None:
        self.step(Received(master, Answered(seq, status, memoryview(body))))

    def elsewhere(self, master: int, seq: int, problem: Exception) -> None:
        self.answer(master, seq, Status.ELSEWHERE, failures.encode(problem))

    def wait(self, ms: int) -> None:
        """Let time pass; the session is stepped when it has asked for it."""
        end = self.now + ms * MS
        while self.armed > self.now and self.armed <= end:
            self.now = self.armed
            self.step(Ticked())
        self.now = end

    @property
    def sent(self) -> list[tuple[int, int | bytes]]:
        """(master, number of a request or id of a blob) of what was sent since the last look."""
        sent, self._sent = self._sent, []
        return [(peer, one.seq if isinstance(one, Question) else one.blob) for peer, one in sent]


def told(bench: Bench) -> list[object]:
    return [(ticket, bytes(result) if isinstance(result, memoryview) else result) for ticket, result in bench.replies]


def test_one_master_is_asked_and_answers() -> None:
    bench = Bench()
    bench.ask("a")
    bench.ask("b")
    assert bench.sent == [(0, 1), (0, 2)]
    bench.answer(0, 2)
    bench.answer(0, 1, Status.FAILED, failures.encode(Collision(b"k", 2, 1)))
    assert told(bench)[0] == ("b", b"done")
    assert isinstance(bench.replies[1][1], Collision)
    assert bench.session.waiting == 0


@pytest.mark.parametrize("loss", [PeerDown(0), Received(0, Ended(None)), Received(0, Farewelled("going"))])
def test_what_has_no_answer_is_asked_of_the_next_under_the_same_number(loss: object) -> None:
    bench = Bench()
    for ticket in "abc":
        bench.ask(ticket)
    bench.answer(0, 2)
    assert bench.sent == [(0, 1), (0, 2), (0, 3)]
    bench.step(loss)
    assert bench.sent == [(1, 1), (1, 3)]
    bench.ask("d")
    assert bench.sent == [(1, 4)]


def test_the_first_answer_counts_and_later_ones_are_not_heard() -> None:
    bench = Bench()
    bench.ask("a")
    bench.step(PeerDown(0))
    bench.answer(0, 1, body=b"from the first")
    bench.answer(1, 1, body=b"from the second")
    assert told(bench) == [("a", b"from the first")]


def test_a_master_in_doubt_is_asked_on_while_there_is_no_other() -> None:
    bench = Bench(up=(0,))
    bench.ask("a")
    bench.step(PeerDown(0))
    bench.ask("b")
    assert bench.sent == [(0, 1)]
    bench.step(PeerUp(0))
    assert bench.sent == [(0, 2)]
    bench.answer(0, 1)
    bench.answer(0, 2)
    assert len(bench.replies) == 2


def test_what_was_asked_of_a_master_in_doubt_is_asked_of_the_first_that_comes_up() -> None:
    bench = Bench(up=(0,))
    bench.ask("a")
    bench.step(PeerDown(0))
    bench.open(2)
    assert bench.sent == [(0, 1), (2, 1)]


def test_a_new_connection_to_the_same_master_is_asked_again() -> None:
    bench = Bench(masters=1, up=(0,))
    bench.ask("a")
    bench.step(Received(0, Ended(None)))
    bench.open(0)
    assert bench.sent == [(0, 1), (0, 1)]


def test_a_slow_master_is_not_waited_for_alone() -> None:
    bench = Bench()
    bench.ask("a")
    bench.wait(HEDGE_MS - 1)
    assert bench.sent == [(0, 1)]
    bench.wait(100)
    assert bench.sent == [(1, 1)]
    bench.wait(2 * HEDGE_MS + 100)
    assert bench.sent == [(2, 1)]
    bench.wait(100 * HEDGE_MS)
    assert bench.sent == []  # each has been asked on this connection; it is not asked twice there


def test_without_anybody_patience_ends() -> None:
    bench = Bench(up=())
    bench.ask("a")
    bench.wait(PATIENCE - 1)
    assert bench.replies == []
    bench.wait(100)
    ((_, result),) = bench.replies
    assert isinstance(result, QuorumLost)
    assert result.waited_ms == PATIENCE
    bench.open(0)
    assert bench.sent == []


def test_a_master_that_cannot_sends_elsewhere_and_after_a_round_there_is_a_pause() -> None:
    bench = Bench(masters=2, up=(0, 1))
    bench.ask("a")
    bench.elsewhere(0, 1, VolumeFull(0, 1))
    assert bench.sent == [(0, 1), (1, 1)]
    bench.elsewhere(1, 1, VolumeFull(0, 1))
    assert bench.sent == []
    bench.wait(BACKOFF_MS + 100)
    assert bench.sent == [(0, 1)]
    bench.elsewhere(0, 1, VolumeFull(0, 1))
    bench.wait(PATIENCE)
    assert isinstance(bench.replies[0][1], VolumeFull)  # what was said is more than that nobody could


def test_requests_beyond_what_a_master_takes_wait_for_an_answer() -> None:
    bench = Bench(requests=2)
    for ticket in "abc":
        bench.ask(ticket)
    assert bench.sent == [(0, 1), (0, 2)]
    bench.answer(0, 1)
    assert bench.sent == [(0, 3)]


def test_blobs_go_first_within_the_credit_and_requests_without_any_do_not_wait() -> None:
    bench = Bench(window=100)
    for name in (b"x", b"y"):
        bench.step(Requested(Stage(name, bytes(60))))
    bench.ask("write", b"x", b"y")
    bench.ask("read")
    assert bench.sent == [(0, b"x"), (0, 2)]
    bench.step(Received(0, Credited(100)))
    assert bench.sent == [(0, b"y"), (0, 1)]


def test_another_master_is_sent_the_blobs_too() -> None:
    bench = Bench()
    bench.step(Requested(Stage(b"x", b"data")))
    bench.ask("write", b"x")
    bench.step(PeerDown(0))
    assert bench.sent == [(0, b"x"), (0, 1), (1, b"x"), (1, 1)]
    bench.answer(1, 1)
    bench.step(PeerDown(1))
    assert bench.sent == []  # let go of with the answer


def test_a_master_that_lacks_the_blobs_gets_them_again() -> None:
    bench = Bench(masters=1, up=(0,))
    bench.step(Requested(Stage(b"x", b"data")))
    bench.ask("write", b"x")
    bench.elsewhere(0, 1, BadRequest("no such blob"))
    bench.wait(1000)
    assert bench.sent == [(0, b"x"), (0, 1), (0, b"x"), (0, 1)]


def test_blobs_can_be_taken_back_and_what_was_never_staged_cannot_be_needed() -> None:
    bench = Bench(window=3)
    bench.step(Requested(Stage(b"x", b"data")))
    bench.step(Requested(Unstage((b"x",))))
    bench.step(Received(0, Credited(100)))
    assert bench.sent == []
    with pytest.raises(BadRequest, match="stage it first"):
        bench.ask("write", b"x")


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_each_request_is_answered_once_and_by_who_was_asked(seed: int) -> None:
    """Random masters, then a calm end: everything is answered, and nothing was asked of a master that was not up."""
    random = Random(seed)
    bench = Bench(up=(), requests=3, window=50)
    up: set[int] = set()
    held: dict[int, list[int]] = {0: [], 1: [], 2: []}
    blobs: dict[int, set[bytes]] = {0: set(), 1: set(), 2: set()}
    needs: dict[int, bytes] = {}
    asked = 0

    def look() -> None:
        for master, what in bench.sent:
            assert master in up
            if isinstance(what, bytes):
                blobs[master].add(what)
            else:
                assert what not in held[master]
                assert what not in needs or needs[what] in blobs[master]
                held[master].append(what)

    def act(move: str, master: int) -> None:
        nonlocal asked
        if move == "ask" and asked < 40:
            asked += 1
            if random.random() < 0.4:
                needs[asked] = b"%d" % asked
                bench.step(Requested(Stage(needs[asked], bytes(random.randrange(40)))))
                bench.ask(str(asked), needs[asked])
            else:
                bench.ask(str(asked))
        elif move == "open" and master not in up:
            held[master], blobs[master] = [], set()
            up.add(master)
            bench.open(master)
        elif move == "end" and master in up:
            up.discard(master)
            bench.step(Received(master, Ended(None)))
        elif move == "credit" and master in up:
            bench.step(Received(master, Credited(50)))
        elif move in ("answer", "elsewhere") and held[master] and master in up:
            seq = held[master].pop(random.randrange(len(held[master])))
            if move == "answer":
                bench.answer(master, seq)
            else:
                bench.elsewhere(master, seq, BadRequest("not now"))
        look()

    moves = ["ask", "ask", "open", "end", "credit", "answer", "elsewhere"]
    for _ in range(300):
        act(random.choice(moves), random.randrange(3))
        if random.random() < 0.2:
            bench.wait(random.randrange(60))
            look()
    for _ in range(400):
        for master in range(3):
            for move in ("open", "credit", "answer"):
                act(move, master)
        bench.wait(60)
        look()
    tickets = [ticket for ticket, _ in bench.replies]
    assert sorted(tickets, key=lambda ticket: int(str(ticket))) == [str(n + 1) for n in range(asked)]
    assert bench.session.waiting == 0


def test_what_a_master_said_that_is_asked_no_more_does_not_turn_from_the_next() -> None:
    bench = Bench()
    bench.ask("a")
    bench.step(PeerDown(0))
    assert bench.sent == [(0, 1), (1, 1)]
    bench.elsewhere(0, 1, BadRequest("not now"))
    assert bench.sent == []
    assert bench.session.chosen == 1


def test_only_masters_with_a_request_are_awaited() -> None:
    bench = Bench()
    assert bench.session.awaited == []
    bench.ask("a")
    assert bench.session.awaited == [0]
    bench.wait(HEDGE_MS + 100)
    assert bench.session.awaited == [0, 1], "and where it was asked, too"
    bench.answer(1, 1)
    bench.answer(0, 1)
    assert bench.session.awaited == []
