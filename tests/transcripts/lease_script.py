"""Scripts of what happens to masters and clients with leases, and the log of what they do about it.

As with script.py a script is lines, and everything indented is the log of the line above it (`--rewrite` writes it
anew). Keys are letters, times ms, clients capital letters. Lines:

    group 1 2 3 : C D                 masters and clients; must come first; all are connected and know each other
    ask C a..b X [free] [after N]     C wants the range; `free`: not to hold it; `after` an ask of the same operation
    done C N                          the operation that asked has run
    dirty C, clean C                  what C is recalled it does not release by itself; releases all that, with tid 90
    give C a..b S                     C gives up what is more than S there
    admit 1 t C writes a [reads b..c] [under T]   a transaction of C comes to master 1; T: the tokens noted so, or none
    note C a T                        T are the tokens under which C would write the key a now
    executed 1 t 50                   it was executed at 1, at the tid 50; `over 1 t`: it never will be
    deliver C>1 [n], drop C>1 [n]     the next messages from C to 1
    double C>1, late C>1              the next one comes twice; goes behind the others
    run                               all messages, and what they cause
    cut C>1, mend C>1                 what C says to 1 is lost, until it is mended
    stop C, go C                      C stands still; goes on
    clock C 98                        C's clock, or a master's, runs at 98 % from now on
    wait 500                          ms pass; nothing arrives; timers fire, unless stopped. `pass 500`: messages arrive
    restart 1                         with grace
    seal 1, epoch 1 2 : 1 4 5         1 is sealed; 1 acts in epoch 2 with voters 1 4 5
    show                              what clients believe to hold, and masters have recorded
"""

from __future__ import annotations

from typing import Any

from gavel.coherency import messages as m
from gavel.coherency.grantor import Grantor, Tell
from gavel.coherency.holder import Answered, Established, Holder, Lapsed, Recalled, ToMaster
from gavel.coherency.messages import Token, Want
from gavel.coherency.rules import ALL, Rules
from gavel.coherency.space import EVERYTHING

MODES = {"-": m.NONE, "S": m.S, "X": m.X}
NAMES = {mode: name for name, mode in MODES.items()}
MS = 1_000_000


def span(word: str) -> tuple[bytes, bytes]:
    lo, _, hi = word.partition("..")
    return lo.encode(), hi.encode() if hi else lo.encode() + b"\0"


def shown(lo: bytes, hi: bytes) -> str:
    if (lo, hi) == EVERYTHING:
        return "all"
    found = lo.decode() if hi == lo + b"\0" else f"{lo.decode()}..{hi.decode()}"
    return found.replace("\0", "+")


class Site:
    """What a grantor sees of its master."""

    def __init__(self) -> None:
        self.tick = 10
        self.executed: list[tuple[bytes, int]] = []

    def newest(self, lo: bytes, hi: bytes) -> int:
        return max((tid for key, tid in self.executed if lo <= key < hi), default=0)

    def stable(self) -> int:
        return max((tid for _, tid in self.executed), default=0)

    def clock(self) -> int:
        self.tick += 1
        return self.tick

    def observe(self, tid: int) -> None:
        self.tick = max(self.tick, tid + 1)


class LeaseScript:
    """Runs lines and keeps their log."""

    def __init__(self, rules: Rules = ALL) -> None:
        self.rules = rules
        self.log: list[str] = []
        self.now = 1000 * MS
        self.sites: dict[str, Site] = {}
        self.masters: dict[str, Grantor] = {}
        self.clients: dict[str, Holder] = {}
        self.starts: dict[str, int] = {}
        self.wires: dict[tuple[str, str], list[Any]] = {}
        self.stopped: set[str] = set()
        self.cut: set[tuple[str, str]] = set()
        self.manual: set[str] = set()
        self.owed: dict[str, list[int]] = {}
        self.noted: dict[str, Any] = {"nothing": []}
        self.bodies: dict[str, list[bytes]] = {}
        self.fights: set[str] = set()
        self.rates: dict[str, tuple[int, int]] = {}  # per cent, and since when

    def run(self, text: str) -> str:
        out = []
        for line in text.splitlines():
            if line.startswith(" "):
                continue
            out.append(line.rstrip())
            words = line.split("#")[0].split()
            if words:
                self.log = []
                getattr(self, f"do_{words[0]}")(*words[1:])
                self.settle()
                out += [f"    {entry}" for entry in self.log]
        return "\n".join(out) + "\n"

    def clock(self, name: str) -> int:
        rate, since = self.rates.get(name, (100, self.now))
        return since + (self.now - since) * rate // 100

    # What moves.

    def settle(self) -> None:
        """Take out what the cores have to say, and look that nobody holds against anybody."""
        for name, holder in self.clients.items():
            for event in holder.drain():
                if isinstance(event, ToMaster):
                    self.put(name, str(event.master), event.message)
                else:
                    self.event(name, holder, event)
        for number, grantor in self.masters.items():
            for told in grantor.drain():
                if isinstance(told, Tell):
                    self.put(number, told.session[:1].decode(), told.message)
                else:
                    self.log.append(f"{number} notes {told.name} of {told.session[:1].decode()}")
        if any(holder._out for holder in self.clients.values()):
            self.settle()
        self.look()

    def event(self, name: str, holder: Holder, event: Any) -> None:
        if isinstance(event, Established):
            ranges = ", ".join(f"{shown(lo, hi)} {NAMES[mode]} from {tid}" for lo, hi, mode, tid in event.ranges)
            self.log.append(f"{name} has {event.number or 'again'}: {ranges or 'no more than before'}")
        elif isinstance(event, Recalled):
            ranges = ", ".join(shown(lo, hi) for lo, hi in event.ranges)
            self.log.append(f"{name} loses {ranges} down to {NAMES[event.to]}")
            if name in self.manual:
                self.owed.setdefault(name, []).append(event.recall)
            else:
                holder.released(event.recall, 0, self.clock(name))
        elif isinstance(event, Lapsed):
            ranges = ", ".join(f"{shown(lo, hi)} {NAMES[mode]}" for lo, hi, mode in event.ranges)
            self.log.append(f"{name} lapses: {ranges}, as of {event.tid}")
        elif isinstance(event, Answered):
            self.log.append(f"{name} is answered {event.number}: from {event.tid}")
        else:
            self.log.append(f"{name} is refused {event.number}")

    def look(self) -> None:
        for key in (bytes([code]) for code in range(ord("a"), ord("h"))):
            using = {n: h for n, h in self.clients.items() if self.clock(n) < h.valid_until}
            for name, holder in using.items():
                for other, theirs in using.items():
                    fight = f"!! {name} writes {key.decode()} while {other} holds it"
                    if name != other and holder.covers(key, key + b"\0", m.X) and theirs.covers(key, key + b"\0", m.S):
                        if fight not in self.fights:
                            self.log.append(fight)
                        self.fights.add(fight)

        for name, holder in self.clients.items():
            for number, grantor in self.masters.items():
                for key in (bytes([code]) for code in range(ord("a"), ord("h"))):
                    believed = holder.believes(int(number), key, self.clock(name))
                    recorded = grantor.recorded(name.encode() * 16, key)
                    wrong = f"!! {name} believes {number} to grant {key.decode()}"
                    if believed and recorded and believed[0] == recorded[0] and believed[1] > recorded[1]:
                        if wrong not in self.fights:
                            self.log.append(wrong)
                        self.fights.add(wrong)

    def arrive(self, source: str, target: str) -> None:
        message = self.wires[source, target].pop(0)
        self.log.append(f"{source}>{target} {self.told(message)}")
        if target in self.masters:
            self.masters[target].hear(source.encode() * 16, message, self.clock(target))
        else:
            self.clients[target].hear(int(source), message, self.clock(target))
        self.settle()

    def told(self, message: Any) -> str:
        kind = type(message).__name__.upper()
        if isinstance(message, m.Ask):
            wants = ", ".join(f"{shown(w.lo, w.hi)} {NAMES[w.mode]}" for w in message.wants)
            return f"{kind} {message.number}: {wants or 'nothing'}{'' if message.hold else ' free'}"
        if isinstance(message, m.Grant):
            ranges = ", ".join(f"{shown(lo, hi)} {NAMES[mode]} from {tid}" for lo, hi, mode, tid in message.ranges)
            return f"{kind} {message.number}: {ranges}{'' if message.held else ', not held'}"
        if isinstance(message, m.Recall):
            return (
                f"{kind} {shown(message.lo, message.hi)} to {NAMES[message.to]} for {message.age.session[:1].decode()}"
            )
        if isinstance(message, m.Release):
            ranges = ", ".join(f"{shown(lo, hi)} {NAMES[to]}" for lo, hi, to in message.ranges)
            return f"{kind} {ranges}, seen {message.tid}"
        if isinstance(message, m.Renewed):
            recalls = ", ".join(f"{shown(r.lo, r.hi)} to {NAMES[r.to]}" for r in message.recalls)
            return f"{kind} as {tuple(message.token)}{'; recalled ' + recalls if recalls else ''}"
        if isinstance(message, m.Alive):
            return f"{kind}{' working on ' + str(message.working) if message.working else ''}"
        return kind

    def put(self, source: str, target: str, message: Any) -> None:
        if (source, target) not in self.cut:
            self.wires.setdefault((source, target), []).append(message)

    def ready(self) -> list[tuple[str, str]]:
        return [wire for wire, held in self.wires.items() if held and wire[1] not in self.stopped]

    # Lines.

    def do_group(self, *words: str) -> None:
        colon = words.index(":")
        for number in words[:colon]:
            self.sites[number], self.starts[number] = Site(), 1
            self.masters[number] = Grantor(1, self.sites[number], self.rules)
            self.masters[number].enter(1, [int(word) for word in words[:colon]], self.now)
        for name in words[colon + 1 :]:
            self.clients[name] = Holder(name.encode() * 16, self.rules)
            for number in words[:colon]:
                self.clients[name].connected(int(number), self.now)
        self.do_run()
        self.do_pass("100")
        self.log = []

    def do_ask(self, name: str, word: str, mode: str, *words: str) -> None:
        after = int(words[words.index("after") + 1]) if "after" in words else None
        want = Want(*span(word), MODES[mode])
        number = self.clients[name].need([want], self.clock(name), after=after, hold="free" not in words, wide=False)
        self.log.append(f"number {number}")

    def do_done(self, name: str, number: str) -> None:
        self.clients[name].done(int(number), self.clock(name))

    def do_dirty(self, name: str) -> None:
        self.manual.add(name)

    def do_clean(self, name: str) -> None:
        self.manual.discard(name)
        for recall in self.owed.pop(name, []):
            self.clients[name].released(recall, 90, self.clock(name))

    def do_give(self, name: str, word: str, mode: str) -> None:
        self.clients[name].give_up([Want(*span(word), MODES[mode])], 0, self.clock(name))

    def do_note(self, name: str, key: str, as_: str) -> None:
        self.noted[as_] = self.clients[name].tokens([span(key)])
        self.log.append(f"{self.noted[as_]}")

    def do_admit(self, number: str, tx: str, name: str, *words: str) -> None:
        given = dict(zip(words[::2], words[1::2], strict=True))
        writes = [given["writes"].encode()] if "writes" in given else []
        reads = [span(given["reads"])] if "reads" in given else []
        tokens = None
        if "under" in given:
            tokens = [Token(inc, count) for node, inc, count in self.noted[given["under"]] if node == int(number)]
        verdict = self.masters[number].admit(name.encode() * 16, reads, writes, tokens, self.clock(number))
        if verdict == 0:
            self.masters[number].block(tx, writes)
        self.bodies[tx] = writes
        self.log.append(f"{number}: {verdict.name}, clock {self.sites[number].tick}")

    def do_executed(self, number: str, tx: str, tid: str) -> None:
        self.sites[number].executed += [(key, int(tid)) for key in self.bodies[tx]]
        self.masters[number].unblock(tx, self.clock(number))

    def do_over(self, number: str, tx: str) -> None:
        self.masters[number].unblock(tx, self.clock(number))

    def do_deliver(self, way: str, count: str = "1") -> None:
        source, target = way.split(">")
        for _ in range(int(count)):
            self.arrive(source, target)

    def do_drop(self, way: str, count: str = "1") -> None:
        source, target = way.split(">")
        for _ in range(int(count)):
            self.log.append(f"lost: {source}>{target} {self.told(self.wires[source, target].pop(0))}")

    def do_double(self, way: str) -> None:
        held = self.wires[tuple(way.split(">"))]  # type: ignore[index]
        held.insert(0, held[0])

    def do_late(self, way: str) -> None:
        held = self.wires[tuple(way.split(">"))]  # type: ignore[index]
        held.append(held.pop(0))

    def do_cut(self, way: str) -> None:
        source, target = way.split(">")
        self.cut.add((source, target))
        self.wires.pop((source, target), None)

    def do_mend(self, way: str) -> None:
        source, target = way.split(">")
        self.cut.discard((source, target))

    def do_clock(self, name: str, per_cent: str) -> None:
        self.rates[name] = int(per_cent), self.now

    def do_run(self) -> None:
        self.settle()
        while wires := self.ready():
            self.arrive(*wires[0])

    def do_stop(self, name: str) -> None:
        self.stopped.add(name)

    def do_go(self, name: str) -> None:
        self.stopped.discard(name)
        self.tick(name)

    def tick(self, name: str) -> None:
        core: Any = self.masters.get(name) or self.clients[name]
        if name not in self.stopped and core.wake_at is not None and core.wake_at <= self.clock(name):
            core.tick(self.clock(name))
            self.settle()

    def do_wait(self, ms: str) -> None:
        for _ in range(int(ms) // 10):
            self.now += 10 * MS
            for name in (*self.masters, *self.clients):
                self.tick(name)

    def do_pass(self, ms: str) -> None:
        log = self.log
        for _ in range(int(ms) // 10):
            self.log = []
            self.do_wait("10")
            self.do_run()
            log += [line for line in self.log if ">" not in line.split()[0]]
        self.log = log

    def do_restart(self, number: str) -> None:
        self.starts[number] += 1
        voters = self.masters[number]._voters
        self.masters[number] = Grantor(self.starts[number], self.sites[number], self.rules)
        self.masters[number].enter(1, voters, self.now)
        self.masters[number].start_grace(self.clock(number))

    def do_seal(self, number: str) -> None:
        self.masters[number].seal()

    def do_epoch(self, number: str, epoch: str, _: str, *voters: str) -> None:
        self.masters[number].enter(int(epoch), [int(voter) for voter in voters], self.now)

    def do_show(self) -> None:
        for name, holder in self.clients.items():
            held = holder._holdings.modes if self.clock(name) < holder.valid_until else []
            self.log.append(
                f"{name}: {', '.join(f'{shown(lo, hi)} {NAMES[mode]}' for lo, hi, mode in held) or 'nothing'}"
            )
        for number, grantor in self.masters.items():
            found = [
                f"{session.name[:1].decode()} {shown(lo, hi)} {NAMES[mode]}"
                for session in grantor._sessions.values()
                for lo, hi, mode in session.held
            ]
            self.log.append(f"{number}: {', '.join(found) or 'nothing'}")
