"""What a daemon shows to monitoring over plain HTTP: /health for load balancers and people, /metrics for Prometheus.

It tells sizes and states, never names or contents. It is served where node.toml says, by default nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from gavel.errors import BadRequest
from gavel.keys.tid import micros
from gavel.node.protocol import Json
from gavel.runtime.dialler import address_of

_LINE_MAX: Final = 8192
_SECONDS: Final = 10


class Health:
    """The endpoint; `status` tells how the node is, `counters` what was observed, by name."""

    def __init__(self, address: str, status: Callable[[], Awaitable[Json]], counters: dict[str, int]) -> None:
        self.host, self.port = address_of(address)
        self._status, self._counters = status, counters
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises BadRequest if that is not possible there."""
        try:
            self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=_LINE_MAX)
        except OSError as problem:
            why = os.strerror(problem.errno) if problem.errno is not None and problem.errno > 0 else str(problem)
            raise BadRequest(
                f"cannot serve http on {self.host}:{self.port} ({why}); change `http` in node.toml"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                try:
                    line = await reader.readline()
                except ValueError:
                    return  # longer than any request that makes sense
                code, kind, body = await self._answer(line)
                head = f"HTTP/1.1 {code.value} {code.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # whoever asked in such a way does not wait for an answer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> tuple[HTTPStatus, str, bytes]:
        method, _, rest = line.partition(b" ")
        path = rest.split(b" ")[0].split(b"?")[0]
        if method != b"GET":
            return HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET only\n"
        if path == b"/health":
            status = await self._status()
            code = HTTPStatus.OK if healthy(status) else HTTPStatus.SERVICE_UNAVAILABLE
            return code, "application/json", json.dumps({"healthy": healthy(status), **status}).encode() + b"\n"
        if path == b"/metrics":
            registry = CollectorRegistry(auto_describe=False)
            registry.register(Collected(await self._status(), self._counters))
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)
        return HTTPStatus.NOT_FOUND, "text/plain", b"/health or /metrics\n"


def healthy(status: Json) -> bool:
    """Whether a node does what it is there for: it has not failed, and sees a majority of the masters."""
    if status.get("failure"):
        return False
    masters = [one for one in status.get("members", ()) if one["role"] != "slave"]
    return bool(2 * sum(one["up"] for one in masters) > len(masters))


def _seconds(tid: str | None) -> float:
    """The time in a tid, seconds since 1970."""
    return micros(int(tid, 16)) / 1e6 if tid else 0.0


class Collected(Collector):
    """The metrics of one moment."""

    def __init__(self, status: Json, counters: dict[str, int]) -> None:
        self._status, self._counters = status, counters

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        status = self._status
        for name, text, value in (
            ("healthy", "1 if the node does what it is there for.", healthy(status)),
            ("failed", "1 if this node has stepped aside, as after an error of its disk.", bool(status.get("failure"))),
            ("epoch", "Number of the epoch of members.", status.get("epoch", 0)),
            ("undecided_transactions", "Transactions that are not decided yet.", status.get("undecided", 0)),
            ("registers", "Transactions that are remembered one by one.", status.get("registers", 0)),
            ("staged_extents", "File data that waits for its transaction.", status.get("staged", 0)),
            ("sync_timestamp_seconds", "Everything up to this time is known here.", _seconds(status.get("sync_tid"))),
            ("volume_size_bytes", "Size of this node's volume.", status.get("total", 0)),
            ("volume_free_bytes", "What of it file data can still take.", status.get("free", 0)),
        ):
            yield GaugeMetricFamily(f"gavel_{name}", text, float(value))
        yield CounterMetricFamily("gavel_commits", "Transactions applied since the start.", status.get("commits", 0))
        yield from self._members(status.get("members", ()))
        events = CounterMetricFamily("gavel_events", "What the log tells by this name.", labels=["event"])
        for name, count in sorted(self._counters.items()):
            events.add_metric([name], count)
        yield events

    def _members(self, members: Any) -> Iterator[Metric]:
        for name, text, field, unit in (
            ("up", "1 if the member can be reached.", "up", 1),
            ("lag_seconds", "How far the member is behind the newest.", "lag_ms", 1000),
            ("round_trip_seconds", "Round trip to the member.", "rtt_us", 1_000_000),
            ("clock_offset_seconds", "How far its clock is ahead of this node's.", "clock_off_us", 1_000_000),
        ):
            family = GaugeMetricFamily(f"gavel_member_{name}", text, labels=["node", "role"])
            for one in members:
                if one.get(field) is not None:
                    family.add_metric([str(one["node"]), one["role"]], float(one[field]) / unit)
            yield family
