"""The contract, through the kernel, on a mounted volume."""

import itertools
from collections.abc import Iterator

import pytest

from tests.contracts.adapter import Adapter
from tests.contracts.host import Host
from tests.contracts.suite import Contract
from tests.contracts.suite_acls import ACCESS, DEFAULT
from tests.integration.mount_daemon import Served, needs_mount

pytestmark = [needs_mount, pytest.mark.mounts]
numbers = itertools.count()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    base = tmp_path_factory.mktemp("contract")
    (base / "mnt").mkdir()
    with Served(base / "mnt", base / "volume") as served:
        yield served


@pytest.fixture
def fs(served: Served) -> Host:
    top = served.directory / f"top{next(numbers)}"
    top.mkdir(mode=0o755)
    return Host(top, frozenset({"acl", "sizes"}), pause=0.012)


class TestMount(Contract):
    def test_removing_what_is_not_there_is_no_error(self, fs: Adapter) -> None:
        """As the contract, but for ctime: after every setxattr the kernel's write-back cache moves it by itself."""
        fs.mknod("a", 0o600)
        fs.mkdir("d")
        before = fs.stat("a"), fs.stat("d")
        fs.removexattr("a", ACCESS)
        fs.removexattr("d", DEFAULT)
        fs.removexattr("a", DEFAULT)
        fs.setxattr("d", DEFAULT, b"")
        after = fs.stat("a"), fs.stat("d")
        assert [at._replace(ctime=0) for at in after] == [at._replace(ctime=0) for at in before]
