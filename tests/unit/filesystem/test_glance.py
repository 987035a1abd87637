"""With the quick look and without it, a check finds the same, whatever was done to the records."""

from random import Random

import pytest

from gavel.filesystem.check import Problem, check
from gavel.filesystem.glance import Glance
from gavel.keys import records
from gavel.transaction.transaction import Transaction
from tests.unit.filesystem.scenario import Scenario


def grown(random: Random) -> Scenario:
    fs = Scenario()
    fs.mkdir("/d")
    fs.mkdir("/d/sub")
    for n in range(12):
        where = random.choice(["/f", "/d/f", "/d/sub/f"])
        fs.write(f"{where}{n}", b"%d" % n * random.choice([0, 10, 1000, 100_000]))
    fs.symlink("/d/link", "target")
    fs.write("/d/holes", b"x" * 1000, offset=50_000)
    fs.setxattr("/d/holes", "user.a", b"1")
    fs.do(lambda tx: tx.put(records.counter(0, records.OBJECTS), (1000).to_bytes(8, "big")))
    return fs


def harm(random: Random, tx: Transaction) -> None:
    key, value = random.choice(list(tx.scan(*records.whole(0))))
    at = random.randrange(max(1, len(value)))
    bad = value[:at] + bytes([random.randrange(256)]) + value[at + 1 :]
    match random.randrange(4):
        case 0:
            tx.delete(key)
        case 1:
            tx.put(key, random.choice([bad[:at], bad + b"\0"]))
        case 2:
            at = random.randrange(2, len(key))
            tx.put(key[:at] + bytes([random.randrange(256)]) + key[at + 1 :], value)
        case _:
            tx.put(key, bad)


def found(fs: Scenario) -> list[Problem]:
    return [problem for problem in check(fs.begin(), deep=True) if problem is not None]


@pytest.mark.parametrize("seed", range(120))
def test_the_same_is_found(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(seed)
    fs = grown(random)
    for _ in range(seed % 4):
        fs.do(lambda tx: harm(random, tx))
    quick = found(fs)
    monkeypatch.setattr(Glance, "record", lambda self, key, value: False)
    monkeypatch.setattr(Glance, "object", lambda self, at: False)
    assert quick == found(fs)
    assert bool(quick) <= bool(seed % 4)
