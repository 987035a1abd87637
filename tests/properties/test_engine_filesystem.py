"""The machine of test_filesystem.py on a real volume: flushed, synced, checkpointed, closed, looked at as of then, cut.

After a power cut the volume must hold the state after some operation, none earlier than the last sync: all of the
operations before it and nothing of those behind it. The model then goes back to that state and on from there.
"""

from __future__ import annotations

import os
import stat
from copy import deepcopy
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from gavel.transaction.transaction import Transaction
from tests.contracts.adapter import Adapter
from tests.contracts.engine import EngineStore
from tests.contracts.functions import Functions
from tests.contracts.model import Model
from tests.properties.test_filesystem import FilesystemMachine, shape, tree

States = list[tuple[Any, Model]]


class EngineMachine(FilesystemMachine):
    """More can happen to a volume than calls."""

    @initialize(target=FilesystemMachine.opened, missing=st.just(False))
    def begin(self, missing: bool) -> Any:
        self.store = EngineStore()
        handles = self.start(Functions(store=self.store), Model())
        self.store.system.sync()
        self.since_sync: States = []
        self.named: dict[int, Any] = {}
        return handles

    @rule()
    def flush(self) -> None:
        tid = self.store.system.engine.flush()
        self.named[tid] = whole(self.real)

    @rule(checkpoint=st.booleans())
    def sync(self, checkpoint: bool) -> None:
        tid = self.store.system.checkpoint() if checkpoint else self.store.system.sync()
        self.named[tid] = whole(self.real)
        del self.since_sync[:-1]

    @rule()
    def begin_again(self) -> None:
        self.lose_handles()
        self.store.begin_again()
        del self.since_sync[:-1]

    @precondition(lambda self: self.named)
    @rule(which=st.integers(0, 1000))
    def look_back(self, which: int) -> None:
        tid = sorted(self.named)[which % len(self.named)]
        assert whole(Functions(store=AsOf(self.store, tid))) == self.named[tid]

    @precondition(lambda self: self.since_sync)
    @rule(seed=st.integers(0, 1 << 32))
    def power_cut(self, seed: int) -> None:
        self.lose_handles()
        self.store.power_cut(Random(seed))
        found = whole(self.real)
        possible = [model for seen, model in self.since_sync if seen == found]
        assert possible, "a state that never was"
        self.model = deepcopy(possible[-1])
        self.real.umask(self.model.mask)
        self.trees = tree(self.real), tree(self.model)
        self.since_sync.clear()
        self.named = {tid: seen for tid, seen in self.named.items() if tid <= self.store.system.engine.history.last_tid}

    def lose_handles(self) -> None:
        """Nobody closes them: what had no name is left for the next opening of the volume."""
        self.real.handles.clear()
        self.model.handles.clear()
        self.open_now.clear()

    @invariant()
    def remember(self) -> None:
        """What the tree is after this step, as the model has it: `agree` compares the two."""
        model = deepcopy(self.model, {id(self.model.numbers): self.model.numbers})  # one source of numbers for all
        model.handles.clear()
        self.since_sync.append((whole(model), model))


def whole(fs: Adapter) -> dict[str, tuple[Any, ...]]:
    """All that two states must have in common, content and attributes included."""
    return {
        path: (
            seen,
            fs.read(path) if stat.S_ISREG(seen[1]) else None,
            {name: fs.getxattr(path, name) for name in fs.listxattr(path)},
        )
        for path, seen in shape(tree(fs)).items()
    }


class AsOf:
    """Operations on the past of a store."""

    def __init__(self, store: EngineStore, tid: int) -> None:
        self.engine, self.tid = store.system.engine, tid

    def run(self, op: Any, *args: Any) -> Any:
        return self.engine.read_at(self.tid, _only_reading, op, *args)


def _only_reading(tx: Transaction, op: Any, *args: Any) -> Any:
    result = op(tx, *args)
    assert not tx.writes
    return result


TestEngineFilesystem = EngineMachine.TestCase
TestEngineFilesystem.settings = settings(
    max_examples=1000 if os.environ.get("GAVEL_SOAK") else 15,
    stateful_step_count=60 if os.environ.get("GAVEL_SOAK") else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
