"""Masters are killed, stopped, cut off, wiped, replaced while clients work, by the API and by mounts. Nothing may be
lost, nothing may be seen that no order of events explains.

Ways and workloads are those of the cluster's soak (soak/nemesis.py, soak/workloads.py). All that clients were told is
checked at the end: by a client, and in the volume of each master by itself.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import gavel
from gavel.node.lab import _can_cut
from soak.labs import WAIT, running
from soak.nemesis import Nemesis
from soak.workloads import Workload
from tests.integration.mount_daemon import needs_mount

ROUNDS = int(os.environ.get("GAVEL_NEMESIS", "60" if os.environ.get("GAVEL_SOAK") else "4"))


@needs_mount
@pytest.mark.mounts
@pytest.mark.skipif(not _can_cut(), reason="network namespaces need root and ip(8)")
@pytest.mark.timeout(0 if ROUNDS > 4 else 600)
def test_nothing_acknowledged_is_lost_whatever_happens_to_masters(tmp_path: Path) -> None:
    seed = int(os.environ.get("GAVEL_SEED", random.randrange(1 << 32)))
    print(f"GAVEL_SEED={seed}")
    with running(tmp_path / "lab") as lab:
        lab.whole()
        nemesis = Nemesis(lab, seed)
        workload = Workload(lab, "/era", [lab.mnt, lab.mount_another()], seed)
        with gavel.connect(lab.url, patience=WAIT) as fs:
            workload.found(fs)
        try:
            workload.start()
            workload.goes_on()
            for way in nemesis.plan(ROUNDS):
                print(way, flush=True)
                nemesis.strike(way, workload)
        finally:
            workload.stop()
        print({worker.name: worker.steps for worker in workload.workers})
        with gavel.connect(lab.url, patience=WAIT) as fs:
            workload.check(fs)
            lab.all_know(fs.tid())
        lab.down()
        for number in lab.nodes:
            with gavel.open(str(lab.directory(number) / "volume.gavel"), read_only=True) as fs:
                workload.check(fs)
