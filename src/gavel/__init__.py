"""GavelFS: a replicated filesystem with a perfect memory.

The rooms and what lives in them are described in docs/ARCHITECTURE.md.
"""

if not __debug__:
    raise ImportError("gavel refuses to run with python -O: its assertions guard your data; run python without -O")

__version__ = "0.1.0"
