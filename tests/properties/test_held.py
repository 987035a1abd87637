"""Held records against a plain model: for every key, what it was at each tid at which it is claimed to be known."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gavel.cache.held import OPEN, Held
from gavel.keys.ranges import RangeSet
from gavel.transaction.view import Miss

KEYS = [bytes([97 + n]) for n in range(12)]
EDGES = st.sampled_from([*KEYS, b"z"])
State = dict[bytes, bytes]


class HeldMachine(RuleBasedStateMachine):
    """A history of states by tid, of which answers are taken at any of them and in any order."""

    @initialize(small=st.booleans())
    def start(self, small: bool) -> None:
        self.held = Held(6000 if small else 1 << 20)
        self.small = small
        self.leased = RangeSet()
        self.answers: list[tuple[bytes, bytes, int, int, list[tuple[bytes, bytes]] | None]] = []
        self.states: list[State] = [{}, {}]  # by tid; 0 is before everything

    @property
    def now(self) -> int:
        return len(self.states) - 1

    @rule(key=st.sampled_from(KEYS), value=st.none() | st.binary(min_size=1, max_size=3))
    def others_change(self, key: bytes, value: bytes | None) -> None:
        if key in self.leased:
            return
        state = dict(self.states[-1])
        state.pop(key, None)
        if value is not None:
            state[key] = value
        self.states.append(state)

    @rule(lo=EDGES, hi=EDGES)
    def ask(self, lo: bytes, hi: bytes) -> None:
        """A master answers a Look: unchanged since the version that is held, or the records. The answer takes time."""
        for start, stop, _, upto in self.held.known(lo, hi) if lo < hi else ():
            if upto == OPEN:
                continue
            now = _part(self.states[-1], start, stop)
            same = upto and all(_part(state, start, stop) == now for state in self.states[upto:])
            self.answers.append((start, stop, upto, self.now, None if same else sorted(now.items())))

    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        """Answers arrive, in any order."""
        if not self.answers:
            return
        lo, hi, version, at, found = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        before = [self._known_to(key) for key in KEYS]
        if found is None:
            self.held.confirm(lo, hi, version, at)
        else:
            self.held.take(lo, hi, at, found)
        if not self.small:
            assert all(old <= self._known_to(key) for old, key in zip(before, KEYS, strict=True))

    def _known_to(self, key: bytes) -> int:
        return self.held.known(key, key + b"\0")[0][3]

    @rule(lo=EDGES, hi=EDGES)
    def look(self, lo: bytes, hi: bytes) -> None:
        """Asking and hearing at once makes all of a range known at one tid."""
        if lo >= hi or self.small:
            return
        on_their_way, self.answers = self.answers, []
        self.ask(lo, hi)
        while self.answers:
            start, stop, version, at, found = self.answers.pop()
            if found is None:
                self.held.confirm(start, stop, version, at)
            else:
                self.held.take(start, stop, at, found)
        self.answers = on_their_way
        first, last = self.held.window([(lo, hi)])
        assert first <= self.now and last in (self.now, OPEN)

    @rule(reads=st.lists(st.tuples(EDGES, EDGES), max_size=3), key=st.sampled_from(KEYS), value=st.binary(max_size=2))
    def commit(self, reads: list[tuple[bytes, bytes]], key: bytes, value: bytes) -> None:
        footprint = RangeSet([one for one in reads if one[0] < one[1]])
        for lo, hi in footprint:
            for start, stop, _, upto in self.held.known(lo, hi):
                if upto and any(
                    _part(s, start, stop) != _part(self.states[-1], start, stop) for s in self.states[upto:]
                ):
                    return  # it would collide
        if any(self.leased.overlaps(*one) for one in [*footprint, (key, key + b"\0")]):
            return  # it is written back there
        self.states.append({**self.states[-1], key: value})
        self.held.committed(self.now, footprint, {key: value})
        assert not self.small or self.held.size <= 6000
        if not self.small:
            assert self.held.get(key) == value and self.held.window([(key, key + b"\0")]) == (self.now, self.now)

    @rule(lo=EDGES, hi=EDGES)
    def forget(self, lo: bytes, hi: bytes) -> None:
        if lo < hi:
            self.held.drop(lo, hi)
            assert self.held.known(lo, hi) == [(lo, hi, 0, 0)]

    @rule(lo=EDGES, hi=EDGES)
    def scan(self, lo: bytes, hi: bytes) -> None:
        """A scan yields what is held up to the first gap, which it names together with all behind it."""
        found = []
        self.held.stale = False
        try:
            for item in self.held.scan(lo, hi):
                found.append(item)
        except Miss as miss:
            ((start, stop),) = miss.ranges
            assert stop == hi and self.held.known(start, stop)[0][2:] == (0, 0)
            hi = start
        known = self.held.known(lo, hi) if lo < hi else []
        assert all(upto for _, _, _, upto in known)
        assert found == [
            item for start, stop, _, at in known for item in sorted(_part(self._state(at), start, stop).items())
        ]
        assert self.held.stale == any(upto != OPEN for _, _, _, upto in known)

    def _state(self, at: int) -> State:
        return self.states[min(at, self.now)]

    @rule(lo=EDGES, hi=EDGES)
    def lease(self, lo: bytes, hi: bytes) -> None:
        """Nobody else changes anything here from now on; masters name the tid of this moment."""
        if lo < hi:
            self.leased.add(lo, hi)
            self.held.open(lo, hi, self.now)

    @rule(lo=EDGES, hi=EDGES)
    def recall(self, lo: bytes, hi: bytes) -> None:
        if lo < hi:
            self.held.cap(lo, hi, self.now)
            self.leased.remove(lo, hi)

    @rule(writes=st.dictionaries(st.sampled_from(KEYS), st.none() | st.binary(min_size=1, max_size=3), max_size=5))
    def write_back(self, writes: dict[bytes, bytes | None]) -> None:
        """Own changes under leases come to be, whether their ranges are known or not."""
        writes = {key: value for key, value in writes.items() if key in self.leased}
        state = {**self.states[-1], **{key: value for key, value in writes.items() if value is not None}}
        for key in [key for key, value in writes.items() if value is None]:
            state.pop(key, None)
        self.states.append(state)
        self.held.written(self.now, writes)
        if not self.small:
            assert all(self.held.get(key) == value for key, value in writes.items())

    @invariant()
    def every_claim_is_true(self) -> None:
        joined = 0
        for start, stop, since, upto in self.held.known(b"", b"\xff"):
            assert start < stop and since <= upto
            if upto:
                joined += 1
                held = dict(self.held.scan(start, stop))
                assert all(_part(state, start, stop) == held for state in self.states[since : upto + 1])
                assert upto < OPEN or self.leased.covers(start, stop)
                for key in KEYS:
                    if start <= key < stop:
                        assert self.held.get(key) == held.get(key)
            else:
                for key in KEYS:
                    if start <= key < stop:
                        with pytest.raises(Miss) as caught:
                            self.held.get(key)
                        assert caught.value.ranges == ((key, key + b"\0"),)
        assert self.held.size <= 6000 or not self.small or joined <= 1


def _part(state: State, lo: bytes, hi: bytes) -> State:
    return {key: value for key, value in state.items() if lo <= key < hi}


TestHeld = HeldMachine.TestCase
TestHeld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
