"""`gavel sim`: says the seed first, what came of it, and how a failing run is seen again."""

from __future__ import annotations

import pytest

from gavel.cli import sim
from gavel.cli.main import run


def test_a_run_that_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "--seed", "7", "--masters", "3", "--clients", "1", "--faults", "none", "--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["seed", "7", "holds"], ["seed", "8", "holds"]]
    assert all("digest" in line and "events/s" in line for line in lines)


def test_a_trace_shows_what_happens_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sim", "--seed", "7", "--masters", "3", "--clients", "1", "--transactions", "6", "--faults", "none"]
    assert run(command) == run([*command, "--trace"]) == 0
    plain, *traced = capsys.readouterr().out.splitlines()
    assert any("Prepare(" in line for line in traced)
    digests = [line.split("digest ")[1].split()[0] for line in (plain, traced[-1])]
    assert digests[0] == digests[1]


def test_a_failing_run_is_shrunk_and_can_be_seen_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim, "SHRINK_SECONDS", 3)
    assert run(["sim", "--seed", "0", "--masters", "3", "--without", "undecided_holds"]) == 1
    lines = capsys.readouterr().out.splitlines()
    shrunk = next(line for line in lines if line.startswith("shrunk to FAILED"))
    again = lines[-1].removeprefix("again: gavel ").removesuffix(" --trace").split()
    assert lines[0].startswith("seed 0  FAILED") and again[:3] == ["sim", "--seed", "0"]
    assert run([*again, "--no-shrink"]) == 1
    assert shrunk.split("digest ")[1].split()[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["--faults", "999"], ["--focus", "luck"], ["--without", "luck"], ["--whole", "--without", "floor"]]
)
def test_what_makes_no_sense_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "--seed", "1", *wrong]) == 2
    assert capsys.readouterr().err.startswith("gavel: ")


def test_a_run_with_leases_holds_and_is_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "sim",
        "--leases",
        "--seed",
        "1",
        "--masters",
        "3",
        "--clients",
        "2",
        "--seconds",
        "1",
        "--faults",
        "none",
    ]
    assert run(command) == run(command) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("seed 1  holds") and "reads" in first
    assert first.split("digest ")[1].split()[0] == second.split("digest ")[1].split()[0]


def test_what_does_not_go_with_leases_is_refused() -> None:
    assert run(["sim", "--leases", "--whole"]) == 2
    assert run(["sim", "--leases", "--seed", "1", "--without", "floor"]) == 2
