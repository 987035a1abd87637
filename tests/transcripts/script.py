"""Scripts of what happens to some masters, and the log of what they do about it.

A script is lines; everything indented is the log of the line above it, and is rewritten by `pytest tests/transcripts
--rewrite`. Lines:

    masters 1 2 3 [4:witness 5:slave] [outside 6]    who there is; must come first
    manual                            syncs happen when told to
    propose 1 a [reads x..y] [blob B] node 1 is asked to have transaction `a` happen, which writes the key `a`
    again 2 a                         node 2 is asked for the same transaction
    ask 2 a                           how did it end?
    read 1                            a read point at node 1
    members 1 1 2 4:slave             node 1 is asked for these members
    blob 2 B                          the blob B arrives at node 2
    lease 2 a [fenced]                at node 2 somebody else's lease stands against whatever writes the key `a`
    release 2 a                       it does not any more
    deliver 1>2 [n]                   the next (n) batches from 1 to 2; * for any node; `run`: all, and what they cause
    drop 1>2
    sync 2
    cut 1-2, mend 1-2                 the link is down, or up again, and both know; 1>2 is lost, and nobody knows
    crash 2 [n]                       all that was not synced is lost, but for the first n things written
    start 2
    copy 3, restore 3                 keep what is durable now; put it back (while the node is down)
    wait 150                          ms in which nothing arrives; `pass 150`: in which everything does
    state [n..]                       where the nodes are
    standing                          which transactions keep leases away, and where

Tids are shown as microseconds since the script began, a point, the node: `40.2`.
"""

from __future__ import annotations

import re
from typing import Any

from gavel.effects import Effect, Observe, PeerDown, Reply, Send, Sync
from gavel.errors import GavelError
from gavel.keys.tid import micros, node
from gavel.quorum import messages as m
from gavel.quorum.machine import Aborted, Admission, Collided, Committed
from gavel.quorum.messages import ABORT, UNDECIDED, Member, TxId
from gavel.quorum.requests import Arrived, Ask, Propose, ReadPoint, Reconfigure
from gavel.quorum.votes import MASTER, SLAVE, WITNESS
from tests.transcripts.masters import START, Masters, body

ROLES = {"master": MASTER, "witness": WITNESS, "slave": SLAVE}
ROLE_NAMES = {number: name for name, number in ROLES.items()}


def member(word: str) -> Member:
    number, _, role = word.partition(":")
    return Member(int(number), ROLES[role or "master"])


class Script:
    """Runs lines and keeps their log."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.names: dict[TxId, str] = {}
        self.ids: dict[str, TxId] = {}
        self.bodies: dict[str, Any] = {}
        self.tickets: dict[int, str] = {}
        self.group: Masters
        self.copy: list[Any] = []

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
                out += [f"    {entry}" for entry in self.log]
        return "\n".join(out) + "\n"

    # Lines.

    def do_masters(self, *words: str) -> None:
        inside = [member(word) for word in (words[: words.index("outside")] if "outside" in words else words)]
        outside = [int(word) for word in words[words.index("outside") + 1 :]] if "outside" in words else []
        self.group = Masters(inside, outsiders=outside)
        self.group.run()
        self.group.wait(100)
        self.group.seen = self.saw

    def do_manual(self) -> None:
        self.group.auto_sync = False

    def do_propose(self, number: str, name: str, *words: str) -> None:
        reads, blobs = [], []
        for what, value in zip(words[::2], words[1::2], strict=True):
            if what == "reads":
                lo, _, hi = value.partition("..")
                reads.append((lo.encode(), hi.encode(), self.group.core(int(number)).stable))
            else:
                blobs.append(value.encode())
        self.ids[name] = self.group.tx(int(number))
        self.names[self.ids[name]] = name
        self.bodies[name] = body(name.encode(), reads=reads, blobs=blobs)
        self.do_again(number, name)

    def do_again(self, number: str, name: str) -> None:
        self.group.request(int(number), Propose(self.ticket(name), self.ids[name], self.bodies[name]))

    def do_ask(self, number: str, name: str) -> None:
        self.group.request(int(number), Ask(self.ticket(name), self.ids[name]))

    def do_read(self, number: str) -> None:
        self.group.request(int(number), ReadPoint(self.ticket("read")))

    def do_members(self, number: str, *words: str) -> None:
        wanted = [member(word) for word in words]
        self.group.request(int(number), Reconfigure(self.ticket("members"), wanted))

    def do_blob(self, number: str, blob: str) -> None:
        self.group.machine(int(number)).arrive(blob.encode())
        self.group.request(int(number), Arrived(blob.encode()))

    def do_lease(self, number: str, key: str, fenced: str = "") -> None:
        self.group.machine(int(number)).against[key.encode()] = Admission.FENCED if fenced else Admission.BUSY

    def do_release(self, number: str, key: str) -> None:
        del self.group.machine(int(number)).against[key.encode()]

    def flights(self, link: str) -> list[int]:
        one, _, other = link.partition(">")
        return [
            at
            for at, (sender, receiver, _) in enumerate(self.group.net)
            if one in ("*", str(sender)) and other in ("*", str(receiver))
        ]

    def do_deliver(self, link: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.group.deliver(self.flights(link)[0])

    def do_run(self) -> None:
        self.group.run()

    def do_drop(self, link: str) -> None:
        for at in reversed(self.flights(link)):
            del self.group.net[at]

    def do_sync(self, number: str) -> None:
        self.group.sync(int(number))

    def do_cut(self, link: str) -> None:
        one, other = map(int, re.split("[->]", link))
        self.group.cuts.add((one, other))
        self.do_drop(f"{one}>{other}")
        if "-" in link:
            self.group.cuts.add((other, one))
            self.do_drop(f"{other}>{one}")
            self.group.step(one, PeerDown(other))
            self.group.step(other, PeerDown(one))

    def do_mend(self, link: str) -> None:
        one, other = map(int, re.split("[->]", link))
        self.group.cuts -= {(one, other), (other, one)}
        if "-" in link:
            self.group.link(one, other)

    def do_crash(self, number: str, keep: str = "0") -> None:
        self.group.crash(int(number), int(keep))

    def do_start(self, number: str) -> None:
        self.group.start(int(number))

    def do_copy(self, number: str) -> None:
        disk = self.group.nodes[int(number)].disk
        self.copy = list(disk.log[: disk.durable])

    def do_restore(self, number: str) -> None:
        disk = self.group.nodes[int(number)].disk
        disk.log[:] = self.copy
        disk.durable = len(self.copy)

    def do_wait(self, ms: str) -> None:
        self.group.wait(int(ms), run=False)

    def do_pass(self, ms: str) -> None:
        self.group.wait(int(ms))

    def do_state(self, *numbers: str) -> None:
        for number, node_ in self.group.nodes.items():
            if numbers and str(number) not in numbers:
                continue
            if node_.core is None:
                self.log.append(f"{number} is down")
                continue
            status = node_.core.status()
            parts = [
                f"epoch {status.epoch}",
                "votes" if status.voting else "does not vote",
                *(["sealed"] if status.sealed else []),
                *(["refused"] if status.refused else []),
                f"S {self.tid(status.stable) if status.stable else 0}",
                "did " + (" ".join(self.names[tx] for tx, _ in self.in_order(number)) or "nothing"),
            ]
            open_ = [self.register(register) for register in node_.core.registers.undecided.values()]
            self.log.append(f"{number} " + ", ".join(parts) + (f"; open: {', '.join(open_)}" if open_ else ""))

    def do_standing(self) -> None:
        for number, node_ in self.group.nodes.items():
            if node_.core is not None:
                known = [self.names[tx] for tx, _ in node_.core.standing()]
                self.log.append(f"{number}: {' '.join(known) or 'nothing'}")

    def in_order(self, number: int) -> list[tuple[TxId, list[bytes]]]:
        history = self.group.machine(number).history
        return [history[tid] for tid in sorted(history)]

    def register(self, register: Any) -> str:
        lowest = "-" if register.lowest > 1 << 63 else self.tid(register.lowest)
        return f"{self.names[register.tx]} not below {lowest}"

    # The log.

    def ticket(self, name: str) -> int:
        ticket = len(self.tickets) + 1
        self.tickets[ticket] = name
        return ticket

    def tid(self, tid: int) -> str:
        if tid == ABORT:
            return "ABORT"
        return f"{micros(tid) - START // 1000}.{node(tid)}" if tid >> 8 > START // 2000 else str(tid)

    def ballot(self, ballot: int) -> str:
        return "carried" if ballot == m.CARRIED else f"{ballot >> 32}/{ballot & 0xFF}"

    def saw(self, number: int, effect: Effect) -> None:
        match effect:
            case Send(peer, batch):
                told = [text for text in map(self.message, batch.messages) if text]
                if told:
                    self.log.append(f"{number}>{peer} " + "; ".join(told))
            case Reply(request, result):
                self.log.append(f"{number} answers {self.tickets[request.ticket]}: {self.result(result)}")
            case Sync():
                if not self.group.auto_sync:
                    self.log.append(f"{number} wants a sync")
            case Observe(name, fields):
                shown = {key: value for key, value in fields.items() if key in ("epoch", "node", "by")}
                self.log.append(f"{number} reports {name} {shown}")

    def result(self, result: Any) -> str:
        match result:
            case Committed(tid):
                return f"committed at {self.tid(tid)}"
            case Collided(key, tid):
                return f"collided on {key.decode()} of {self.tid(tid)}"
            case Aborted(_, cause):
                return "aborted" + (f", {cause.name.lower()}" if cause else "")
            case GavelError():
                return type(result).__name__
            case int():
                return f"read at {self.tid(result)}"
        return "members " + self.members(result)

    def members(self, members: list[Member]) -> str:
        return " ".join(str(n) if role == MASTER else f"{n}:{ROLE_NAMES[role]}" for n, role in members)

    def message(self, message: m.Message) -> str:
        kind = type(message).__name__.upper()
        tx = self.names.get(getattr(message, "tx", None), "") if hasattr(message, "tx") else ""
        match message:
            case m.Prepare():
                what = self.ballot(message.ballot) + (" without body" if message.body is None else "")
                what += "" if message.proposing else ", not to propose"
            case m.Promise():
                what = self.ballot(message.ballot)
                what += f" p={self.tid(message.proposal)}" if message.proposal else " no proposal"
                if message.accepted:
                    what += f" accepted {self.tid(message.value)} under {self.ballot(message.accepted)}"
            case m.Accept():
                what = f"{self.ballot(message.ballot)} {self.tid(message.value)}"
            case m.Accepted():
                what = self.ballot(message.ballot)
            case m.Nack():
                what = f"{self.ballot(message.ballot)}, {self.ballot(message.promised)} is promised"
            case m.Busy():
                what = self.ballot(message.ballot) + (" fenced" if message.fenced else "")
            case m.Decided():
                what = self.tid(message.value)
            case m.VouchAsk():
                return ""
            case m.Seal():
                what = f"{self.ballot(message.ballot)} for {self.members(message.members)}"
            case m.Sealed():
                known = [
                    f"{self.names[t]} {self.tid(value if decided == UNDECIDED else decided)}"
                    for t, _, value, decided in message.known
                ]
                what = f"{self.ballot(message.ballot)} S={self.tid(message.stable)} {', '.join(known)}"
            case m.Choose():
                what = f"{self.ballot(message.ballot)} {self.record(message.record)}"
            case m.Start():
                what = self.record(message.record)
            case m.Chosen():
                what = self.ballot(message.ballot)
            case m.ReadTold():
                what = self.tid(message.highest)
            case m.CatchUp():
                what = f"({self.tid(message.lo)}, {self.tid(message.hi) if message.hi else 'now'}]"
            case m.Piece():
                what = f"({self.tid(message.lo)}, {self.tid(message.hi)}]"
                what += " last" if message.following is None else ""
                what += f" knowing {len(message.known)}" if message.known else ""
            case _:
                what = ""
        return " ".join(part for part in (kind, tx, what.strip()) if part)

    def record(self, record: m.Record) -> str:
        carry = ", ".join(f"{self.names[tx]} {self.tid(value)}" for tx, value in record.carry)
        told = f"epoch {record.epoch}: {self.members(record.members)}, from S={self.tid(record.stable)}"
        return told + (f", carries {carry}" if carry else "")
