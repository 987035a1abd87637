"""Typed errors over the wire: the same class with the same evidence, or at least the same sentence."""

from __future__ import annotations

import inspect

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gavel import errors
from gavel.errors import BadPeer, Collision, Damaged, GavelError
from gavel.wire import failures
from gavel.wire.failures import Told

SAMPLES = {
    "Damaged": Damaged("a node", 5, "this", "that"),
    "str": "text",
    "int": 7,
    "bytes": b"\0bytes",
    "bool": True,
    "object": 3,
    "Sequence[str]": ("a", "b"),
}
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GavelError)]


def sample(kind: type[GavelError]) -> GavelError:
    if "__init__" not in vars(kind):
        return kind("a sentence")
    found = []
    for parameter in inspect.signature(kind).parameters.values():
        annotation = str(parameter.annotation)
        found.append((8, 9) if annotation == "Sequence[int]" else SAMPLES[annotation.removesuffix(" | None")])
    return kind(*found)


def shown(value: object) -> object:
    """A field, comparable: errors are not."""
    return vars(value) if isinstance(value, GavelError) else value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_arrives_with_its_evidence(kind: type[GavelError]) -> None:
    problem = sample(kind)
    told = failures.decode(failures.encode(problem))
    assert type(told) is kind
    assert str(told) == str(problem)
    assert {name: shown(value) for name, value in vars(told).items()} == {
        name: shown(value) for name, value in vars(problem).items()
    }
    assert told.retry == problem.retry


def test_what_has_no_class_arrives_with_its_sentence_and_can_be_passed_on() -> None:
    told = failures.decode(failures.encode(ZeroDivisionError("by nothing")))
    assert isinstance(told, Told)
    assert (told.kind, str(told)) == ("ZeroDivisionError", "by nothing")
    again = failures.decode(failures.encode(told))
    assert isinstance(again, Told)
    assert again.kind == "ZeroDivisionError"


def test_fields_of_the_wrong_type_are_the_fault_of_the_peer() -> None:
    body = msgspec.msgpack.encode(["Collision", "x", ["no bytes", 1, 2, []]])
    with pytest.raises(BadPeer, match="fields of a Collision"):
        failures.decode(body)


@given(st.binary(max_size=60) | st.tuples(st.integers(0, 60), st.binary(max_size=4)))
def test_any_bytes_are_an_error_or_the_fault_of_the_peer(made: bytes | tuple[int, bytes]) -> None:
    if isinstance(made, tuple):
        body = bytearray(failures.encode(Collision(b"key", 1, 2, ["/path"])))
        body[made[0] : made[0] + len(made[1])] = made[1]
        made = bytes(body)
    try:
        assert isinstance(failures.decode(made), GavelError)
    except BadPeer:
        return
