"""The contract that every face of the filesystem keeps: all behaviours in one class to be run over an adapter."""

from __future__ import annotations

from tests.contracts.suite_acls import Acls
from tests.contracts.suite_attributes import Attributes
from tests.contracts.suite_directories import Directories
from tests.contracts.suite_names import Names
from tests.contracts.suite_open import OpenFiles
from tests.contracts.suite_rename import Renames
from tests.contracts.suite_xattrs import Xattrs


class Contract(Names, Renames, Directories, Attributes, Xattrs, Acls, OpenFiles):
    """Subclass as TestSomething beside a fixture `fs` that gives a fresh Adapter."""
