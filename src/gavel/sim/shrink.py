"""Making a failing run small enough to be understood, and saying how to see it again.

Invariant: what is returned fails like the run it was made from (the same property), or is that run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Protocol, TypeVar

from gavel.quorum.rules import Rules
from gavel.sim.plan import FOCI, Fault, Plan, draw
from gavel.sim.world import SECOND


class Failed(Protocol):
    """What came of a run."""

    @property
    def plan(self) -> Any:
        """What was run; `smaller()` names plans that are a step smaller."""
        ...

    @property
    def property(self) -> str:
        """The name of the property that did not hold."""
        ...


Run = TypeVar("Run", bound=Failed)


def shrink(failed: Run, run: Callable[[Any], Run], more: Callable[[], bool]) -> Run:
    """The smallest failing run that taking parts away leads to, tried while `more()`."""
    best = failed
    progress = True
    while progress and more():
        progress = False
        for plan in best.plan.smaller():
            if not more():
                break
            result = run(plan)
            if result.property == failed.property:
                best, progress = result, True
                break
    return best


class Shape(Protocol):
    """What plans of all kinds have that shrinking changes."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """In the order of their times."""
        ...

    @property
    def clients(self) -> int:
        """How many there are."""
        ...

    @property
    def duration(self) -> int:
        """Virtual ns until the faults end."""
        ...


def changed(plan: Shape, drawn: Shape) -> list[str]:
    """The options for what a plan has fewer of than what was drawn from its seed."""
    words = []
    if plan.faults != drawn.faults:
        words.append("--faults " + (",".join(str(drawn.faults.index(fault)) for fault in plan.faults) or "none"))
    if plan.clients != drawn.clients:
        words.append(f"--clients {plan.clients}")
    if plan.duration != drawn.duration:
        words.append(f"--seconds {plan.duration / SECOND:g}")
    return words


def chosen(drawn: tuple[Fault, ...], text: str, seed: int) -> tuple[Fault, ...]:
    """Those of the drawn faults that `--faults` names; raises ValueError for one that there is not."""
    numbers = [] if text in ("", "none") else [int(number) for number in text.split(",")]
    if any(not 0 <= number < len(drawn) for number in numbers):
        raise ValueError(f"seed {seed} has faults 0 to {len(drawn) - 1}")
    return tuple(drawn[number] for number in numbers)


def options(plan: Plan) -> str:
    """The options of `gavel sim` that make this plan again, from its seed."""
    drawn = draw(plan.seed, masters=plan.masters, focus=plan.focus, without=plan.without)
    words = [f"--seed {plan.seed}", f"--masters {plan.masters}"]
    if plan.focus:
        words.append(f"--focus {plan.focus}")
    words += changed(plan, drawn)
    if plan.transactions != drawn.transactions:
        words.append(f"--transactions {plan.transactions}")
    if plan.readers != drawn.readers:
        words.append(f"--readers {plan.readers}")
    if plan.whole:
        words.append("--whole")
    words += [f"--without {rule}" for rule in sorted(plan.without)]
    return " ".join(words)


def remade(
    seed: int,
    masters: int | None = None,
    faults: str | None = None,
    clients: int | None = None,
    transactions: int | None = None,
    seconds: float | None = None,
    focus: str = "",
    without: frozenset[str] = frozenset(),
    readers: int | None = None,
) -> Plan:
    """The plan that such options make; raises ValueError for a fault, a focus or a rule that there is not."""
    if focus not in FOCI:
        raise ValueError(f"the focus is one of {', '.join(filter(None, FOCI))}")
    unknown = sorted(without - {rule.name for rule in fields(Rules)})
    if unknown:
        raise ValueError(f"the quorum has no rule {unknown[0]}; docs/internals/simulator.md lists them")
    plan = draw(seed, masters=masters, focus=focus, without=without)
    if faults is not None:
        plan = replace(plan, faults=chosen(plan.faults, faults, seed))
    if clients is not None:
        plan = replace(plan, clients=clients)
    if transactions is not None:
        plan = replace(plan, transactions=transactions)
    if seconds is not None:
        plan = replace(plan, duration=round(seconds * SECOND))
    if readers is not None:
        plan = replace(plan, readers=readers)
    return plan
