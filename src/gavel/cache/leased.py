"""The whole of a client with leases: operations that are done in memory where its leases allow it.

    at_once(), start()   an operation; done at once where all it reads is known to be true now, and all it writes is
                         held in X. Else it waits for leases (Holder.need), then for records (Look, Data); again
    sync()               everything done by now becomes durable
    hear(), answered()   what masters say, about leases and to questions
    forgotten()          the kernel has let go of what Forget named
    drain()              what is to be done about it

Invariants:
- what an operation has read is checked after it was read: known to be true, by leases that stand at that moment;
- what it has written is dirty whole or not at all, under X on every key of it;
- a range is released when nothing that was read or written there is without an outcome, and after the kernel was told;
- what is in limbo is neither read nor written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gavel.cache.attempts import Attempt, Finished, Operation
from gavel.cache.ground import Ground
from gavel.cache.held import OPEN
from gavel.cache.leased_view import LeasedView, Notes
from gavel.cache.lost import Lost, lost
from gavel.cache.remote import Remote
from gavel.cache.under_way import Asking, Closing, Effect, Forget, Lack, Save, Work
from gavel.cache.wanting import Nearby, objects, wants_of
from gavel.cache.writeback import Ahead, Put, WriteBack
from gavel.coherency.holder import Answered, Denied, Established, Holder, Lapsed, Recalled, Tokens, ToMaster
from gavel.coherency.messages import ABSURD, NONE, FromMaster, S, Want, X
from gavel.coherency.space import EVERYTHING, lease_range
from gavel.effects import Observe, Reply, Send
from gavel.errors import BadRequest, GavelError, QuorumLost
from gavel.keys.ranges import Range, RangeSet, just
from gavel.limits import ATTEMPTS_MAX, BUSY_PAUSE_NS
from gavel.transaction import requests
from gavel.transaction.requests import Fetch, Look, Question, Read, Stage, Submit
from gavel.transaction.transaction import Transaction
from gavel.transaction.view import Miss


class Leased:
    """See the module. `elapsed` is ns of a clock that counts while the machine sleeps, `wall` ns since 1970."""

    def __init__(
        self,
        remote: Remote,
        holder: Holder,
        elapsed: Callable[[], int],
        wall: Callable[[], int],
        coord: Callable[[], int],
        save: Save,
        *,
        patience_ns: int,
        kernel: bool = False,
        cached: bool = True,
    ) -> None:
        """`coord`: the node that is asked first. `kernel`: whether somebody keeps what is told, and is to Forget it.
        `cached`: whether leases are held; else nothing is kept, and others flush what is about to be looked at."""
        self._remote, self._holder = remote, holder
        self._elapsed, self._wall, self._coord = elapsed, wall, coord
        self._patience = patience_ns
        self.kernel, self._cached = kernel, cached
        self._held = remote.present
        self._ground = Ground(remote.present, holder.tokens, holder.covers)
        self._rights = self._ground.rights
        self._view = LeasedView(remote.state, remote.places)
        self._back = WriteBack(self._view, self._ground, remote.places, remote.naming, coord, save)
        remote.more_values = self._back.values
        self._works: dict[Work, None] = {}
        self._ready: deque[Work] = deque()
        self._parked: list[Work] = []
        self._needs: dict[int, Work] = {}
        self._questions: dict[int, tuple[Work | None, Question]] = {}
        self._number = 0
        self._closings: dict[int, Closing] = {}
        self._plain: dict[Work, RangeSet] = {}  # run without leases, and the keys that each has submitted
        self._syncs: deque[tuple[Any, int]] = deque()
        self._nearby = Nearby()
        self._unheard: GavelError | None = None  # work was lost, and nobody who wanted it durable has been told
        self._doubt = False  # something lies in overlays whose leases are gone, or going
        self._effects: list[Effect] = []
        self._turning = False

    # What is asked for here.

    def at_once(self, operation: Operation) -> Finished | None:
        """The end of an operation that needs no question; None: nothing has happened, start() it."""
        self._remote.tidy()
        if not self._cached:
            return None
        end = self._try(operation, self._wall())
        if self._back.eager:
            self._turn()
        return end if isinstance(end, Finished) else None

    def start(self, ticket: Any, operation: Operation, at: int = 0) -> None:
        """Run an operation on the present, or only reading as of `at`; its end is a Reply to the ticket."""
        work = Work(ticket, operation, self._elapsed() + self._patience)
        self._works[work] = None
        if at or not self._cached:
            work.attempt = self._remote.start(operation, self._coord(), at)
        self._ready.append(work)
        self._turn()

    def commit(self, ticket: Any, tx: Transaction) -> None:
        """Commit a transaction of Remote.freeze(); the Reply has its tid, or Collision."""
        work = Work(ticket, lambda own: None, self._elapsed() + self._patience)
        self._works[work] = None
        work.attempt = self._remote.commit(tx, self._coord())
        self._plain[work] = RangeSet()
        self._ready.append(work)
        self._turn()

    def sync(self, ticket: Any) -> None:
        """The Reply comes when all that is done by now is durable, with a tid that has it; or why it is not."""
        if self._unheard is not None:
            self._effects.append(Reply(ticket, Finished(None, self._unheard)))
            self._unheard = None
            return
        self._syncs.append((ticket, self._back.seal(self._elapsed())))
        self._turn()

    def contents(self, writes: dict[bytes, bytes | None]) -> list[Lost]:
        """What changes that will never be were about, as far as that is known here."""
        return lost(self._view, self._remote.pfs, writes)

    @property
    def dirty(self) -> bool:
        """Whether anything is not durable."""
        return self._back.dirty

    @property
    def lives(self) -> int:
        """For how many ns more what is held may be believed."""
        return max(0, self._holder.valid_until - self._elapsed()) if not self._doubt else 0

    @property
    def quiet(self) -> bool:
        """Whether nothing is being given up."""
        return not self._closings and not self._doubt

    # What happens.

    def connected(self, master: int) -> None:
        """A master can be reached."""
        self._holder.connected(master, self._elapsed())
        self._turn()

    def disconnected(self, master: int) -> None:
        """A master cannot be reached."""
        self._holder.disconnected(master)
        self._turn()

    def hear(self, master: int, messages: list[FromMaster]) -> None:
        """A master says something about leases."""
        now = self._elapsed()
        for message in messages:
            self._holder.hear(master, message, now)
        self._turn()

    def answered(self, number: int, answer: requests.Answer | GavelError) -> None:
        """The answer to what was Asking."""
        work, question = self._questions.pop(number)
        if work is None:
            self._back.answered(answer, self._elapsed())
        elif work in self._works:
            work.asked -= 1
            self._heard(work, question, answer)
            if not work.asked and not work.not_before:
                self._ready.append(work)
        self._turn()

    def forgotten(self, recall: int) -> None:
        """The kernel has let go of what a Forget named."""
        closing = self._closings.get(recall)
        if closing is not None and not closing.told:
            self._close(closing)
        self._turn()

    def tick(self) -> None:
        """Time has passed."""
        now = self._elapsed()
        self._expire(now)
        for work in list(self._works):
            if now >= work.deadline:
                self._end(work, Finished(None, QuorumLost(self._patience // 1_000_000)))
        self._ready.extend(work for work in self._works if 0 < work.not_before <= now)
        self._turn()

    def _expire(self, now: int) -> None:
        """See to it that nothing is used whose time is over."""
        self._holder.tick(now)
        for closing in list(self._closings.values()):
            if not closing.told and now >= closing.deadline:
                self._close(closing)

    @property
    def wake_at(self) -> int:
        """When to call tick() if nothing happens before."""
        times = [self._holder.wake_at, self._back.wake_at]
        times += [one.deadline for one in self._closings.values() if not one.told]
        times += [work.not_before or work.deadline for work in self._works]
        return min((at for at in times if at is not None), default=self._elapsed() + self._patience)

    def leave(self) -> None:
        """The client ends; what is dirty should have been synced before."""
        self._holder.leave(self._elapsed())
        self._take_in()

    def drain(self) -> list[Effect]:
        """What is to be done since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    # One turn: until nothing is left to be done.

    def _turn(self) -> None:
        if self._turning:
            return
        self._turning = True
        try:
            while True:
                self._take_in()
                self._pump()
                if self._ready:
                    self._run(self._ready.popleft())
                elif not self._take_in():
                    break
        finally:
            self._turning = False

    def _take_in(self) -> bool:
        """What the holder has to say; whether that was anything."""
        events = self._holder.drain()
        self._ground.changed()
        for event in events:
            match event:
                case ToMaster(master, message):
                    self._effects.append(Send(master, message))
                case Established():
                    self._established(event)
                case Answered(number):
                    self._cleared(number)
                case Recalled():
                    self._recalled(event)
                case Lapsed():
                    self._lapsed(event)
                case Denied(number, why):
                    self._denied(number, why)
        return bool(events)

    def _pump(self) -> None:
        """Flush, and tell whoever waited for it."""
        back, now = self._back, self._elapsed()
        back.pump(now, self._wall())
        out, back.out = back.out, []
        for effect in out:
            if isinstance(effect, Put):
                self._ask(None, effect.submit)
            else:
                self._effects.append(effect)
        if self._doubt and not back.dirty:
            self._doubt = False
        for closing in list(self._closings.values()):
            if closing.told and not self._open_in(closing):
                del self._closings[closing.recall]
                if closing.to == NONE:
                    back.forgo(closing.ranges)
                self._holder.released(closing.recall, max(back.last, self._holder.known), now)
        if back.lost is not None:
            error, back.lost = back.lost, None
            self._remote.forget_ids()
            if self.kernel:
                self._effects.append(Forget(0, [EVERYTHING]))
            if not self._syncs:
                self._unheard = error
            self._fail_syncs(error)
        elif back.trouble is not None:
            self._fail_syncs(back.trouble)
        while self._syncs and (not back.dirty or self._syncs[0][1] <= back.settled):
            self._effects.append(Reply(self._syncs.popleft()[0], Finished(back.last)))
        if self._parked:
            waiting, self._parked = self._parked, []
            for work in waiting:
                over = work.until <= back.settled or not back.dirty if work.until else self._still
                (self._ready if over else self._parked).append(work)

    @property
    def _still(self) -> bool:
        """Whether nothing is run without leases, and nothing that is recalled is in use."""
        return not self._plain and all(one.told for one in self._closings.values())

    def _open_in(self, closing: Closing) -> bool:
        return self._back.touches(closing.ranges, closing.to != NONE)

    def _fail_syncs(self, error: GavelError) -> None:
        while self._syncs:
            self._effects.append(Reply(self._syncs.popleft()[0], Finished(None, error)))

    # Running.

    def _try(self, operation: Operation, wall: int) -> Finished | Lack:
        """Run an operation once: it is done, or has left nothing behind."""
        remote, view, held = self._remote, self._view, self._held
        notes = Notes()
        before = list(remote.ids)
        reserved: list[Range] = []
        tx = Transaction(view, wall, remote.pfs, lambda: self._take_object(tx, reserved), notes)
        held.stale = False
        miss: Miss | None = None
        error: Exception | None = None
        result = None
        try:
            result = operation(tx)
        except Miss as lacking:
            miss = lacking
        except Exception as problem:
            error, tx.writes = problem, {}
        tokens: Tokens | None = None
        full = bool(tx.writes) and (self._back.full or bool(self._plain))
        doubt = self._doubt or self._plain
        sound = miss is None and not held.stale and not full and (not doubt or self._sure(notes.noted))
        if sound:
            tokens = self._tokens(tx.writes, reserved) if tx.writes else ()
        now = self._elapsed()
        if tokens is None or now >= self._until:
            view.unstage()
            remote.ids[:] = before
            block = reserved[0] if reserved else None
            writes = list(tx.writes) if miss is None else []
            unbacked = sound and tokens is None and all(map(self._rights.writable, writes))
            return Lack(notes.noted, miss, writes, block, full, unbacked)
        if error is not None:
            remote.ids[:] = before
            view.unstage()
            return Finished(None, error)
        if tx.writes:
            staged, view.staged = view.staged, []
            self._back.add(tx.writes, notes.noted, staged, tokens, now)
            if reserved:
                self._ground.empty(reserved[0])
        return Finished(result)

    @property
    def _until(self) -> int:
        """Until when all that is used stands; what is recalled, and still in use, is not renewed."""
        if not self._closings:
            return self._holder.valid_until
        return min([self._holder.valid_until, *(one.deadline for one in self._closings.values() if not one.told)])

    def _tokens(self, writes: dict[bytes, bytes | None], made: list[Range]) -> Tokens | None:
        found = self._ground.writable(writes, made)
        if found is None and not all(one.told for one in self._closings.values()):
            return self._ground.before(writes, made) if all(map(self._rights.writable, writes)) else None
        return found

    def _take_object(self, tx: Transaction, reserved: list[Range]) -> int:
        ids = self._remote.ids
        if not ids:
            first, end = self._remote.reserve(tx)
            ids.append((first, end))
            reserved.append(objects(tx.pfs, first, end))
        return self._remote.pop_id()

    def _sure(self, reads: list[Range]) -> bool:
        """Whether leases stand over all that was read, and nothing is on its way there whose outcome is not known."""
        if any(keys.overlaps(lo, hi) for keys in self._plain.values() for lo, hi in reads):
            return False
        return all(self._rights.covers(lo, hi) for lo, hi in reads) and not (
            self._back.limbo and self._back.touches([lease_range(lo, hi) for lo, hi in reads], limbo=True)
        )

    def _run(self, work: Work) -> None:
        """Run an operation, and see to what it lacks."""
        if work not in self._works or work.asked:
            return
        work.not_before = 0
        if work.attempt is not None:
            self._drive(work, work.attempt)
            return
        work.runs += 1
        if work.runs > ATTEMPTS_MAX:
            self._end(work, Finished(None, QuorumLost(self._patience // 1_000_000)))
            return
        work.wall = work.wall or self._wall()
        end = self._try(work.operation, work.wall)
        if isinstance(end, Finished):
            self._end(work, end)
        else:
            self._arrange(work, end)

    def _end(self, work: Work, end: Finished) -> None:
        del self._works[work]
        if work.need is not None:
            self._needs.pop(work.need, None)
            self._holder.done(work.need, self._elapsed())
        if work.attempt is not None:
            self._remote.ended(work.attempt, end)
            self._back.last = max(self._back.last, end.tid)
            self._plain.pop(work, None)
        self._effects.append(Reply(work.ticket, end))

    def _arrange(self, work: Work, lack: Lack) -> None:
        """Ask for leases, or else for records, or else wait until what is in the way has an outcome."""
        now = self._elapsed()
        miss = lack.miss
        past = miss is not None and bool(miss.at)
        reads = [*lack.reads, *(miss.ranges if miss is not None and not past else ())]
        touched = [lease_range(lo, hi) for lo, hi in [*reads, *map(just, lack.writes)]]
        if self._back.limbo and self._back.touches(touched, limbo=True):
            self._park(work, self._back.seal(now))
            return
        if self._plain and (lack.full or any(k.overlaps(lo, hi) for k in self._plain.values() for lo, hi in reads)):
            self._park(work, 0)
            return
        if lack.full:
            self._park(work, self._back.settled + 1)
            return
        self._expire(now)
        self._take_in()
        unbacked = lack.unbacked and now < self._until
        if unbacked and any(not one.told for one in self._closings.values()):
            self._park(work, 0)
            return
        wants = wants_of(self._rights, reads, lack.writes, lack.block, unbacked)
        if wants:
            self._need(work, wants)
            return
        asked = self._remote.lacking(miss) if miss is not None and miss.extents else []
        if miss is not None and past and miss.ranges:
            asked.append(Fetch(list(miss.ranges), miss.at))
        lacking = self._not_open(RangeSet(reads))
        if lacking:
            near = RangeSet(self._nearby.of(self._rights, miss.ranges if miss is not None and not past else ()))
            for lo, hi, _ in lacking:
                near.remove(lo, hi)
            asked.append(Look(lacking + self._not_open(near)))
        for question in asked:
            self._ask(work, question)
        if not asked:
            self._ready.append(work)

    def _not_open(self, ranges: RangeSet) -> list[Read]:
        """The parts of these of which it is not known that they are true now, and as of when they were."""
        return [(lo, hi, upto) for one in ranges for lo, hi, _, upto in self._held.known(*one) if upto != OPEN]

    def _park(self, work: Work, until: int) -> None:
        """Let it wait until a batch has its outcome; for 0, until all is still."""
        work.until = until
        self._parked.append(work)

    def _need(self, work: Work, wants: list[Want], hold: bool = True) -> None:
        after, self._needs = work.need, {n: w for n, w in self._needs.items() if w is not work}
        work.need = self._holder.need(wants, self._elapsed(), after=after, hold=hold)
        if after is not None:
            self._holder.done(after, self._elapsed())
        self._needs[work.need] = work
        work.wanted = wants

    def _ask(self, work: Work | None, question: Question) -> None:
        self._number += 1
        self._questions[self._number] = work, question
        if work is not None:
            work.asked += 1
        self._effects.append(Asking(self._number, question))

    def _heard(self, work: Work, question: Question, answer: requests.Answer | GavelError) -> None:
        if work.attempt is not None:
            work.attempt.heard(question, answer, self._wall())
            if isinstance(question, Submit):
                self._plain[work] = RangeSet()
                if work.attempt.busy:
                    work.not_before = self._elapsed() + BUSY_PAUSE_NS
            return
        try:
            for lo, hi in self._remote.learn(question, answer, self._wall()):
                self._ground.open(lo, hi)
        except GavelError as error:
            self._end(work, Finished(None, error))

    # Without leases: what is contended, frozen transactions, the past.

    def _drive(self, work: Work, attempt: Attempt) -> None:
        """Run an attempt, after all that is dirty is committed: it sees nothing of that."""
        if not attempt.at and self._back.dirty:
            self._park(work, self._back.seal(self._elapsed()))
            return
        step = work.step
        if step is None:
            attempt.current = max(self._back.last, self._holder.known)
            ran = attempt.run(self._wall())
            if isinstance(ran, Finished):
                self._end(work, ran)
                return
            step = ran
        lacking = self._uncleared(work, step)
        if lacking:
            work.step = step
            self._need(work, [Want(lo, hi, S) for lo, hi in lacking], hold=False)
            return
        work.step = None
        for question in step:
            if isinstance(question, Stage):
                self._effects.append(Ahead(question))
                continue
            if isinstance(question, Submit):
                self._plain[work] = RangeSet([just(key) for key in attempt.writes])
            self._ask(work, question)

    def _uncleared(self, work: Work, step: list[Question]) -> RangeSet:
        """The lease ranges that are looked at, and where others may have something unflushed."""
        looked = [one for question in step if isinstance(question, Look) for one in question.ranges]
        lacking = RangeSet([lease_range(*gap) for lo, hi, _ in looked for gap in self._rights.lacks(lo, hi)])
        for lo, hi in work.cleared:
            lacking.remove(lo, hi)
        return lacking

    # What the holder says.

    def _established(self, event: Established) -> None:
        self._ground.granted(event.ranges)
        work = self._needs.pop(event.number, None) if event.number is not None else None
        if work is not None:
            for lo, hi, mode in work.wanted:
                if mode == X:
                    self._ground.raised(lo, hi)
            self._ready.append(work)

    def _cleared(self, number: int) -> None:
        """Nothing is held, but nobody has anything unflushed: to be run once without leases."""
        work = self._needs.pop(number, None)
        if work is None:
            return
        if work.attempt is None:
            work.attempt = self._remote.start(work.operation, self._coord())
            self._plain[work] = RangeSet()
        for lo, hi, _ in work.wanted:
            work.cleared.add(lo, hi)
        self._ready.append(work)

    def _denied(self, number: int, why: int) -> None:
        work = self._needs.pop(number, None)
        if work is None:
            return
        if why == ABSURD:
            self._end(work, Finished(None, BadRequest("masters refuse these ranges; use the same release everywhere")))
        else:
            work.not_before = self._elapsed() + BUSY_PAUSE_NS

    def _recalled(self, event: Recalled) -> None:
        closing = Closing(event.recall, event.ranges, event.to, self._holder.valid_until)
        self._closings[event.recall] = closing
        if event.to == NONE and self.kernel:
            self._effects.append(Forget(event.recall, event.ranges))
        else:
            self._close(closing)

    def _close(self, closing: Closing) -> None:
        """Use it no more; what is dirty there is on its way from now on."""
        closing.told = True
        if self._open_in(closing):
            self._back.seal(self._elapsed())
            self._doubt = True
        for lo, hi in closing.ranges:
            self._ground.withdraw(lo, hi, closing.to, self._holder.known, self._back.written)

    def _lapsed(self, event: Lapsed) -> None:
        """Nobody stands behind these any more: what was written there is in limbo, what was read perhaps not true."""
        ranges = [(lo, hi) for lo, hi, _ in event.ranges]
        if self._back.touches(ranges):
            self._back.disown(ranges, self._elapsed())
            self._doubt = True
            self._remote.forget_ids()
        for lo, hi, mode in event.ranges:
            self._ground.withdraw(lo, hi, mode, event.tid, self._back.written)
        self._effects.append(Observe("lapsed", {"ranges": len(ranges), "dirty": self._back.dirty}))
