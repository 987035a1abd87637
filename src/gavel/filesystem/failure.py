"""POSIX errors, as this room raises them: an OSError with the errno and the system's text for it."""

from __future__ import annotations

from os import strerror


def failure(code: int) -> OSError:
    """The OSError of an errno; the caller raises it. OSError picks its own subclass (FileNotFoundError, ...)."""
    return OSError(code, strerror(code))
