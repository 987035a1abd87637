"""GavelFS: a replicated filesystem with a perfect memory.

    import gavel

    with gavel.open("disk.gavel", create=True) as fs:
        fs.write_text("/hello", "world")
        before = fs.tid()
        fs.remove("/hello")
        assert fs.as_of(before).read_text("/hello") == "world"

The Python API is described in docs/guide/python.md, the rooms and what lives in them in docs/ARCHITECTURE.md. Names
are loaded when they are first used, so that importing one room does not import them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if not __debug__:
    raise ImportError("gavel refuses to run with python -O: its assertions guard your data; run python without -O")

if TYPE_CHECKING:
    from gavel import errors
    from gavel.client import aio
    from gavel.client.cluster import Cluster
    from gavel.client.fs import Fs
    from gavel.client.transactions import Transaction
    from gavel.client.tree import AsOf
    from gavel.client.volumes import format_volume
    from gavel.client.volumes import open_fs as open  # gavel.open, like io.open
    from gavel.errors import Collision, GavelError
    from gavel.media.cipher import KeyFile, Passphrase
    from gavel.node.connecting import connect

__version__ = "0.1.0"

__all__ = [
    "AsOf", "Cluster", "Collision", "Fs", "GavelError", "KeyFile", "Passphrase", "Transaction", "aio", "connect",
    "errors", "format_volume", "open",
]  # fmt: skip

if not TYPE_CHECKING:
    _LAZY = {
        "AsOf": ("gavel.client.tree", "AsOf"),
        "Cluster": ("gavel.client.cluster", "Cluster"),
        "Collision": ("gavel.errors", "Collision"),
        "Fs": ("gavel.client.fs", "Fs"),
        "GavelError": ("gavel.errors", "GavelError"),
        "KeyFile": ("gavel.media.cipher", "KeyFile"),
        "Passphrase": ("gavel.media.cipher", "Passphrase"),
        "Transaction": ("gavel.client.transactions", "Transaction"),
        "aio": ("gavel.client.aio", None),
        "connect": ("gavel.node.connecting", "connect"),
        "errors": ("gavel.errors", None),
        "format_volume": ("gavel.client.volumes", "format_volume"),
        "open": ("gavel.client.volumes", "open_fs"),
    }

    def __getattr__(name):
        """Load a public name on its first use (PEP 562)."""
        from importlib import import_module

        if name not in _LAZY:
            raise AttributeError(f"module 'gavel' has no attribute {name!r}")
        module, attribute = _LAZY[name]
        loaded = import_module(module)
        found = loaded if attribute is None else getattr(loaded, attribute)
        globals()[name] = found
        return found
