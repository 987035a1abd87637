"""The command that simulates: a cluster, its clients and its troubles in virtual time, all of it drawn from a seed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gavel.sim.leases.plan import LeasePlan
    from gavel.sim.plan import Plan
    from gavel.sim.result import Result

    AnyPlan = Plan | LeasePlan
    AnyResult = Result[Plan] | Result[LeasePlan]

SHRINK_SECONDS = 60
LAST_LINES = 40  # of the trace of a failing run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sim)


def sim(
    seed: Annotated[int | None, typer.Option(help="The seed; a fresh one if none is given.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Run so many seeds, this one and those after it.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Run seeds for so long.")] = None,
    masters: Annotated[int | None, typer.Option(min=1, max=9, help="How many masters; else the seed decides.")] = None,
    faults: Annotated[str | None, typer.Option(help="Only these of the seed's faults, by number, or none.")] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="How many clients.")] = None,
    transactions: Annotated[int | None, typer.Option(min=1, help="How many transactions of each client.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long the faulty phase lasts, in virtual time.")] = None,
    focus: Annotated[str, typer.Option(help="See that these happen: members, forgetting or restarts.")] = "",
    without: Annotated[list[str] | None, typer.Option(help="Remove this rule of the quorum.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Whole replicas on volumes, not the quorum over a toy.")
    ] = False,
    readers: Annotated[
        int | None, typer.Option(min=0, help="With --whole: how many clients read under leases.")
    ] = None,
    leases: Annotated[
        bool, typer.Option("--leases", help="Clients that hold leases and keep what they read and wrote.")
    ] = False,
    drift: Annotated[
        float, typer.Option(min=0, help="With --leases: how far clocks are off, in parts of what is allowed.")
    ] = 1.0,
    trace: Annotated[bool, typer.Option("--trace", help="Print everything that happens.")] = False,
    shrink: Annotated[bool, typer.Option(help="Make a failing run small.")] = True,
) -> None:
    """Run a cluster in virtual time, under faults, and check what must always hold.

    Everything follows from the seed: the same seed is the same run, to the digest. Exit code 1 if something does not
    hold.
    """
    from gavel.errors import BadRequest
    from gavel.sim.leases.plan import remade as remade_with_leases
    from gavel.sim.shrink import remade

    removed = frozenset(without or ())
    if whole and removed:
        raise BadRequest("rules are removed from the quorum over a toy, not from whole masters")
    if leases and (whole or focus or transactions is not None):
        raise BadRequest("--leases goes without --whole, --focus and --transactions")
    first = secrets.randbelow(1 << 32) if seed is None else seed
    began, ran = time.monotonic(), 0
    while True:
        print(f"seed {first + ran}", end="  ", flush=True)
        try:
            plan: AnyPlan
            if leases:
                plan = remade_with_leases(first + ran, masters, faults, clients, seconds, drift, removed)
            else:
                plan = remade(first + ran, masters, faults, clients, transactions, seconds, focus, removed, readers)
                plan = replace(plan, whole=whole)
        except ValueError as problem:
            raise BadRequest(str(problem)) from None
        if not _holds(plan, trace, shrink):
            raise typer.Exit(1)
        ran += 1
        if ran >= seeds if minutes is None else time.monotonic() - began >= minutes * 60:
            break


def _ways(plan: AnyPlan) -> tuple[Callable[..., Any], Callable[..., str]]:
    """How such a plan is run, and which options make it again."""
    from gavel.sim.leases import plan as leases
    from gavel.sim.leases.simulation import run as run_with_leases
    from gavel.sim.shrink import options
    from gavel.sim.simulation import run

    return (run_with_leases, leases.options) if isinstance(plan, leases.LeasePlan) else (run, options)


def _holds(plan: AnyPlan, tracing: bool, shrinking: bool) -> bool:
    """Run one plan and say what came of it."""
    from gavel.sim.trace import Trace

    run, _ = _ways(plan)
    began = time.process_time()
    result = run(plan, Trace(print, kept=1) if tracing else None)
    took = max(time.process_time() - began, 1e-6)
    print(_verdict(result), f"{result.events / took:,.0f} events/s")
    if not result.violations:
        return True
    for violation in result.violations:
        print(f"  {violation}")
    if shrinking:
        _explain(result)
    return False


def _verdict(result: AnyResult) -> str:
    plan, word = result.plan, "FAILED" if result.violations else "holds"
    counts = ", ".join(f"{number} {kind}" for kind, number in result.counts.items())
    return (
        f"{word}  digest {result.digest}  {plan.masters} masters, {plan.clients} clients, {counts}, "
        f"{result.events} events in {result.virtual / 1e9:.1f} s"
    )


def _explain(result: AnyResult) -> None:
    """Make a failing run small, show its end, and say how to see it again."""
    from gavel.sim.shrink import shrink
    from gavel.sim.trace import Trace

    run, options = _ways(result.plan)
    until = time.monotonic() + SHRINK_SECONDS
    small = shrink(result, run, lambda: time.monotonic() < until)
    trace = Trace()
    run(small.plan, trace)
    print(f"shrunk to {_verdict(small)}")
    for violation in small.violations:
        print(f"  {violation}")
    for fault in small.plan.faults:
        print(f"  fault: {fault}")
    print("\n".join(trace.last(LAST_LINES)))
    print(f"again: gavel sim {options(small.plan)} --trace")
