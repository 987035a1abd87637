"""The admin protocol: JSON lines over a unix socket, one call after the other on a connection.

    -> {"call": "undo", "args": {"path": "/a", "to": "-5m"}}
    <- {"progress": {"done": 3, "total": 9, "what": "/a/b"}}      any number of these
    <- {"item": {...}}                                            of calls that list something, in order
    <- {"result": {...}}       or  {"error": {"kind": "BadWhen", "message": "...", "errno": null}}

Calls and their keys are those of service.py. Closing the connection gives up a call under way between two slices.
"""

from __future__ import annotations

import errno as codes
import inspect
import json
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec

from gavel import errors

LINE_MAX = 16 * 1024 * 1024  # bytes; a transaction's paths come in one line
Json = dict[str, Any]


class Refused(errors.GavelError):
    """An error that the other side of the socket answered with; `kind` is the name of its class there."""

    def __init__(self, kind: str, message: str, errno: int | None) -> None:
        self.kind, self.errno = kind, errno
        super().__init__(message)


def encode(message: Json) -> bytes:
    """A message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Json:
    """A line as a message; raises BadRequest for anything but a JSON object."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise errors.BadRequest(
            "the admin socket got a line that is not JSON; use the same release on both sides"
        ) from None
    if not isinstance(message, dict):
        raise errors.BadRequest("the admin socket got something else than an object; send {call, args}")
    return message


def call_of(line: bytes) -> tuple[str, Json]:
    """Name and arguments of the call in a line; raises BadRequest."""
    message = decode(line)
    name, args = message.get("call"), message.get("args") or {}
    if not isinstance(name, str) or not isinstance(args, dict):
        raise errors.BadRequest("a call has a name and an object of arguments; send {call, args}")
    return name, args


def checked(call: Callable[..., object], name: str, args: Json) -> Json:
    """The arguments, once they are known to be those that the function behind a call takes; raises BadRequest."""
    known = inspect.signature(call).parameters
    lacking = [one.name for one in known.values() if one.default is one.empty and one.name not in args]
    if args.keys() - known or lacking:
        takes, given = ", ".join(known) or "nothing", ", ".join(args) or "nothing"
        raise errors.BadRequest(f"the call {name} does not take that: it takes {takes}, and was given {given}")
    hints = get_type_hints(call)
    for given, value in args.items():
        try:
            msgspec.convert(value, hints[given])
        except msgspec.ValidationError as problem:
            raise errors.BadRequest(f"the call {name} does not take this as {given}: {problem}") from None
    return args


def error_of(problem: BaseException) -> Json:
    """An exception as the value of `error`."""
    if isinstance(problem, Refused):
        return {"kind": problem.kind, "message": str(problem), "errno": problem.errno}
    number = problem.errno if isinstance(problem, OSError) else None
    return {"kind": type(problem).__name__, "message": sentence(problem), "errno": number}


def refusal(error: Json) -> Refused:
    """The exception of a value of `error`."""
    return Refused(str(error.get("kind")), str(error.get("message")), error.get("errno"))


def sentence(problem: BaseException) -> str:
    """What went wrong in one sentence for a person."""
    if isinstance(problem, OSError) and problem.errno is not None:
        text = problem.strerror or codes.errorcode.get(problem.errno, "error")
        names = [name for name in (problem.filename, problem.filename2) if name is not None]
        shown = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names]
        return f"{' -> '.join(shown)}: {text}" if shown else text
    return str(problem) or type(problem).__name__
