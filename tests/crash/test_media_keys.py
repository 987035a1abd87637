"""Power cuts on encrypted volumes: nothing synced is lost, one key opens, and no nonce is used twice."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from gavel.errors import GavelError, WrongKey
from gavel.filesystem import superblock
from gavel.limits import VOLUME_MIN
from gavel.media.cipher import FORMAT_ENTROPY, LOCK_ENTROPY, SEED_SIZE, Cipher, KeyFile, make_lock
from gavel.media.volume import Volume
from gavel.runtime.engine import Engine
from gavel.sim.device import SimDevice
from gavel.sim.shell import SimShell
from tests.crash import test_engine
from tests.crash.simulated import WHO, System
from tests.crash.test_media import SEEDS, SIZE, cut_everywhere, run
from tests.crash.toy import Toy, Workload, judge

KEYS = [KeyFile(bytes([n]) * 32) for n in range(2)]


def make(seed: int) -> Workload:
    device = SimDevice(SIZE, seed, sector=4096)
    entropy = Random(seed).randbytes(FORMAT_ENTROPY)
    Volume.format(
        device, identity=bytes(16), salt=0xABCDEF + seed, label="", created_tid=1, key=KEYS[0], entropy=entropy
    )
    return Workload(device, seed, KEYS[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_at_every_write_of_an_encrypted_volume_loses_nothing_that_was_synced(seed: int) -> None:
    workload = make(seed)
    assert cut_everywhere(workload, 400) > 100
    assert workload.toy.volume._header.generation > 2


def cut_through_rekeys(workload: Workload, rekeys: int) -> None:
    """Change the key again and again; at every write of it, just one key opens, and from the checkpoint on the new."""
    random = Random(rekeys)
    new = 0
    promised = True  # that the new key is the one

    def cut(device: SimDevice) -> None:
        crashed = device.crash(random, random.choice([None, None, 0.0, 1.0]))
        found = []
        for n, key in enumerate(KEYS):
            try:
                Volume.open(crashed, key=key)
                found.append(n)
            except WrongKey:
                pass
        assert found in ([new], [1 - new]) and not (promised and found != [new]), "the wrong key opens"
        workload.key = KEYS[found[0]]
        judge(crashed, workload)

    workload.device.on_write = cut
    for _ in range(rekeys):
        run(workload, 20)
        workload.finish_checkpoint()
        new, promised = 1 - new, False
        volume = workload.toy.volume
        volume.rekey(volume.new_lock(KEYS[new], random.randbytes(LOCK_ENTROPY)))
        run(workload, 2)
        workload.finish_checkpoint()
        workload.begin_checkpoint()
        workload.finish_checkpoint()
        promised = True


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_at_every_write_of_a_rekey_leaves_one_key_that_opens(seed: int) -> None:
    cut_through_rekeys(make(seed), 8)


def test_a_rekey_that_wraps_another_data_key_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(volume: Volume, key: KeyFile, entropy: bytes) -> bytes:
        return make_lock(key, bytes(32), volume.identity, entropy)

    monkeypatch.setattr(Volume, "new_lock", wrong)
    workload = make(0)
    with pytest.raises((GavelError, AssertionError)):
        cut_through_rekeys(workload, 8)


def live_and_die(lives: int, patch: pytest.MonkeyPatch) -> None:
    """One volume through many lives, each cut off at random: no text shares session and counter with another."""
    used: dict[bytes, tuple[bytes, bytes, int, int]] = {}
    seal = Cipher.seal

    def noted(cipher: Cipher, magic: bytes, number: int, place: int, text: bytes) -> bytes:
        sealed = seal(cipher, magic, number, place, text)
        entry = (bytes(text), magic, number, place)
        assert used.setdefault(sealed[:20], entry) == entry, "a nonce was used twice under one key"
        return sealed

    patch.setattr(Cipher, "seal", noted)
    random = Random(lives)
    device = make(0).device
    for _ in range(lives):
        device = device.crash(random, random.choice([None, 0.0, 1.0]))
        if random.random() < 0.5:  # the power fails again while the volume is being opened
            strikes: list[SimDevice] = []
            device.on_write = lambda struck: strikes.append(struck.crash(random))  # noqa: B023
            Toy(Volume.open(device, key=KEYS[0]))
            device = random.choice(strikes)
        run(Workload(device, random.randrange(1 << 30), KEYS[0]), random.randrange(30))
    assert len(used) > 10 * lives


def test_no_nonce_is_used_twice_however_many_frames_crashes_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    live_and_die(60, monkeypatch)


def _life_not_durable(patch: pytest.MonkeyPatch) -> None:
    start = Volume._start

    def hasty(volume: Volume, reader: object) -> None:
        sync = volume._device.sync
        volume._device.sync = lambda: None  # type: ignore[method-assign]
        start(volume, reader)  # type: ignore[arg-type]
        volume._device.sync = sync  # type: ignore[method-assign]

    patch.setattr(Volume, "_start", hasty)


def _life_not_counted(patch: pytest.MonkeyPatch) -> None:
    begin = Cipher.begin
    patch.setattr(Cipher, "begin", lambda cipher, life, seed: begin(cipher, 1, bytes(SEED_SIZE)))


@pytest.mark.parametrize("plant", [_life_not_durable, _life_not_counted])
def test_a_planted_reuse_of_nonces_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, GavelError)):
        live_and_die(60, monkeypatch)


def test_the_engine_on_an_encrypted_volume_survives_cuts_like_on_one_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(device: SimDevice) -> System:
        shell = SimShell(device)
        return System(device, shell, Engine(device, shell=shell, clock=shell.clock, key=KEYS[0]))

    device = SimDevice(VOLUME_MIN, 5)
    entropy = bytes(range(FORMAT_ENTROPY))
    Volume.format(device, identity=bytes(16), salt=77, label="", created_tid=1 << 40, key=KEYS[0], entropy=entropy)
    system = engine(device)
    system.engine.write(superblock.make_root, WHO)
    system.sync()
    monkeypatch.setattr(test_engine, "opened", engine)
    random = Random(5)
    ledger = test_engine.Ledger(system, random, every=1)
    test_engine.work(system, random, ledger)
    ledger.cuts = ledger.cuts[:: max(1, len(ledger.cuts) // 30)]
    test_engine.check(ledger)
