"""Typed errors as bytes, so that what a master raises is raised again, with its evidence, where it was asked.

    [name, message, [field, ...]]      MessagePack; the fields are those of the constructor in gavel/errors.py

Invariant: whatever the bytes are, the result is a GavelError or BadPeer is raised; an error of a later release, or
one that is no GavelError, arrives as `Told`, with its sentence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec

from gavel import errors
from gavel.errors import BadPeer, GavelError
from gavel.wire.messages import Refusal


class Told(GavelError):
    """An error of the other side that has no class here; `kind` is the name of its class there."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)


class _Form(NamedTuple):
    build: Callable[..., GavelError]
    fields: tuple[str, ...]
    decode: Callable[[msgspec.Raw], tuple[object, ...]]


def _form(kind: type[GavelError]) -> _Form | None:
    """How a class is built from its fields; None for one that is built from its message alone."""
    if "__init__" not in vars(kind):
        return None
    names = tuple(inspect.signature(kind).parameters)
    hints = get_type_hints(kind.__init__)
    types = tuple(_travels_as(hints[name]) for name in names)
    return _Form(kind, names, msgspec.msgpack.Decoder(tuple.__class_getitem__(types)).decode)


def _travels_as(hint: Any) -> Any:
    """What a field of this type is on the wire: an error that is the cause of another is a Refusal."""
    if hint is object:
        return Any
    return Refusal if isinstance(hint, type) and issubclass(hint, GavelError) else hint


_CLASSES: Final = {
    name: kind for name, kind in sorted(vars(errors).items()) if isinstance(kind, type) and issubclass(kind, GavelError)
}
_FORMS: Final = {name: _form(kind) for name, kind in _CLASSES.items()}
_pack: Final = msgspec.msgpack.Encoder(enc_hook=str).encode
_unpack: Final = msgspec.msgpack.Decoder(Refusal).decode
_TEXT_MAX: Final = 1000  # characters of a message that go over the wire


def refusal(problem: BaseException) -> Refusal:
    """An error in the form of an ERROR message."""
    name = problem.kind if isinstance(problem, Told) else type(problem).__name__
    form = _FORMS.get(name)
    values = [] if form is None else [getattr(problem, field) for field in form.fields]
    fields = [refusal(value) if isinstance(value, GavelError) else value for value in values]
    return Refusal(name[:_TEXT_MAX], (str(problem) or name)[:_TEXT_MAX], msgspec.Raw(_pack(fields)))


def raised(told: Refusal) -> GavelError:
    """The error that a Refusal tells of; raises BadPeer if its fields are not those of its class."""
    kind = _CLASSES.get(told.error)
    if kind is None:
        return Told(told.error, told.message)
    form = _FORMS[told.error]
    if form is None:
        return kind(told.message)
    try:
        values = form.decode(told.fields)
        return form.build(*(raised(value) if isinstance(value, Refusal) else value for value in values))
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError, AttributeError) as problem:
        raise BadPeer(f"fields of a {told.error}", "those of its class", str(problem)) from None


def encode(problem: BaseException) -> bytes:
    """An error as the body of a response."""
    return _pack(refusal(problem))


def decode(body: bytes | memoryview) -> GavelError:
    """The error in the body of a response; raises BadPeer."""
    try:
        told = _unpack(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise BadPeer("form of an error", "as documented", str(problem)) from None
    return raised(told)
