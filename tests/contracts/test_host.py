"""The contract, over the filesystem of this machine: it is the suite that is proved here, against the kernel."""

import os
from pathlib import Path

import pytest

from tests.contracts.host import Host
from tests.contracts.suite import Contract
from tests.contracts.suite_acls import ACCESS, NAMED, acl


@pytest.fixture
def fs(tmp_path: Path) -> Host:
    top = tmp_path / "top"
    top.mkdir(mode=0o755)
    try:
        os.setxattr(top, "user.probe", b"1")
        os.removexattr(top, "user.probe")
    except OSError:
        pytest.skip("the filesystem of temporary files has no extended attributes")
    return Host(top, frozenset({"acl"}) if _has_acls(tmp_path) else frozenset())


def _has_acls(directory: Path) -> bool:
    probe = directory / "probe"
    probe.touch()
    try:
        os.setxattr(probe, ACCESS, acl(NAMED))
    except OSError:
        return False
    return True


class TestHost(Contract):
    pass
