"""A client of a cluster in this process, elsewhere than its masters: the engine over a session and its links.

The way of a question: ClusterEngine -> wire.Session chooses a master -> Link ... answers. One step of the session
serves all that arrived in one turn of the loop.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from gavel.effects import Arm, Event, PeerDown, PeerUp, Received, Reply, Requested, Send, Ticked
from gavel.errors import GavelError
from gavel.limits import PATIENCE_SECONDS
from gavel.runtime.cluster_engine import ClusterEngine, Heard
from gavel.runtime.dialler import Dialler
from gavel.runtime.exchange import Arrival, Exchange
from gavel.runtime.link import Doubted, Link, Sure
from gavel.transaction import requests
from gavel.transaction.requests import Stage
from gavel.wire.connection import Opened, Party
from gavel.wire.session import Ask, Blob, Question, Session
from gavel.wire.session import Stage as StageBlob

_FIRST_LOOK_SECONDS: Final = 0.5  # a program that ends sooner has no use for more masters
_LOOK_SECONDS: Final = 60.0


def address_in(url: str) -> str:
    """The address in the URL of one node."""
    return url.partition("://")[2]


class RemoteEngine(ClusterEngine):
    """See the module.

    `nodes` are the masters' node ids, in the order of their `addresses`, 0 where not known; `me` says who this client
    is (its incarnation is the name of its session).
    """

    def __init__(
        self,
        addresses: Sequence[str],
        nodes: Sequence[int],
        me: Party,
        context: ssl.SSLContext | None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(me.incarnation, clock)
        self._nodes = list(nodes)
        first = random.randrange(len(addresses))
        patience = int(patience_seconds * 1000)
        self._session = Session(len(addresses), patience, lambda below: random.randrange(max(below, 1)), first)
        self._exchange = Exchange(lambda: me, self._deliver, busy=self._awaited)
        self._context = context
        self._diallers = [self._dialler(address) for address in addresses]
        self._name = me.incarnation
        self._stepping = False
        self.on_members: Callable[[list[dict[str, Any]]], None] = lambda members: None  # as a master tells them
        self._later = self.loop.call_later(_FIRST_LOOK_SECONDS, self._look_round)

    def _dialler(self, address: str) -> Dialler:
        return Dialler(self._exchange, address, self._context, random.random)

    @property
    def addresses(self) -> list[str]:
        """Of the masters that are known."""
        return [dialler.address for dialler in self._diallers]

    @property
    def in_use(self) -> int:
        """The place among the addresses of the master that is asked at present."""
        return self._session.chosen

    def learn(self, masters: dict[str, int]) -> None:
        """Know of these masters as well, by address, each with its node id. Those that are known stay."""
        for address, node in masters.items():
            if address not in self.addresses and not self._closed:
                self._nodes.append(node)
                self._diallers.append(self._dialler(address))
                self._session.add()

    def _look_round(self) -> None:
        """Ask who the masters are by now."""
        self._later = self.loop.call_later(_LOOK_SECONDS, self._look_round)
        self._ask(requests.Status(), self._told)

    def _told(self, answer: requests.Answer | GavelError) -> None:
        super()._told(answer)
        members = answer.fields.get("members") if isinstance(answer, requests.Told) else None
        found = [one for one in members or () if one.get("url")]
        if found and not self._closed:
            self.learn({address_in(one["url"]): one["node"] for one in found if one["role"] == "master"})
            self.on_members(found)

    async def close(self) -> None:
        """End the links; what is under way raises QuorumLost."""
        self._closed = True
        self._later.cancel()
        for dialler in self._diallers:
            await dialler.close()
        self._give_up()
        await self._exchange.finish()  # a loop that ends now must not leave sockets to the garbage collector

    @property
    def _coord(self) -> int:
        return self._nodes[self._session.chosen]

    def _ask(self, question: requests.Question, heard: Heard, needs: tuple[bytes, ...] = ()) -> None:
        self._step(Requested(Ask(heard, requests.encode(question), needs)))

    def _put_ahead(self, blob: bytes, stage: Stage) -> None:
        self._step(Requested(StageBlob(blob, requests.to_blob(stage))))

    # The session and its links.

    def _awaited(self) -> list[Link]:
        """The links to masters that have to answer something."""
        links = (self._diallers[master].link for master in self._session.awaited)
        return [link for link in links if link is not None]

    def _deliver(self, arrivals: list[Arrival]) -> None:
        for link, event in arrivals:
            master = next((n for n, dialler in enumerate(self._diallers) if dialler.link is link), None)
            if master is None:
                continue
            match event:
                case Doubted():
                    self._step(PeerDown(master))
                case Sure():
                    self._step(PeerUp(master))
                case Opened(peer):
                    self._nodes[master] = peer.node  # another one than before, if it had to join anew
                    self._step(Received(master, event))
                case _:
                    self._step(Received(master, event))

    def _step(self, event: Event) -> None:
        self._session.step(event, time.monotonic_ns())
        if self._stepping:
            return  # the loop below carries out what came of it
        self._stepping = True
        try:
            while effects := self._session.drain():
                for effect in effects:
                    self._carry_out(effect)
        finally:
            self._stepping = False

    def _carry_out(self, effect: object) -> None:
        match effect:
            case Send(master, Question(stream, seq, body)):
                link = self._diallers[master].link
                if link is not None and link.connection.request_room:  # it may have said goodbye just now
                    link.request(stream, self._name, seq, body)
            case Send(master, Blob(blob, data)):
                link = self._diallers[master].link
                if link is not None and link.opened:
                    link.blob(blob, data)
            case Reply(Ask(ticket=heard), result):
                heard(_answer(result))
            case Arm(at):
                self.loop.call_later(max(0, at - time.monotonic_ns()) / 1e9, self._tick)
            case _:
                raise AssertionError(f"no shell for {effect!r}")

    def _tick(self) -> None:
        if not self._closed:
            self._step(Ticked())


def _answer(result: Any) -> requests.Answer | GavelError:
    if isinstance(result, GavelError):
        return result
    try:
        return requests.decode_answer(result)
    except GavelError as error:
        return error
