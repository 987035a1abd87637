"""The rules whose removal breaks something, by name. All are on in production; the simulator removes one and must
notice.

The names are those of the table in docs/internals/quorum.md, which says what each prevents.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """One attribute a rule; False removes it."""

    # Acceptors.
    durable_promise: bool = True  # a promise leaves when it and its proposal are durable
    durable_accept: bool = True  # so does an acceptance
    ballot_order: bool = True  # nothing is accepted below a promised ballot
    two_ballots: bool = True  # what was promised and what was accepted are remembered apart
    clock_past_value: bool = True  # accepting and learning move the clock past the value
    lifetime: bool = True  # nothing is proposed after the end of a transaction's life
    closed: bool = True  # no vote about what is over or forgotten
    admission: bool = True  # nothing is proposed that the machine does not admit

    # Coordinators.
    voters_by_identity: bool = True  # a majority is a set of members, not a number of answers
    highest_accepted: bool = True  # the value accepted under the highest ballot goes on
    all_proposed: bool = True  # no value without a proposal of each of a majority
    highest_proposal: bool = True  # the highest of these proposals is the value
    busy_ends: bool = True  # what is not admitted by a majority is decided, never waited for

    # Vouches and the watermark.
    vouch_lists_all: bool = True  # everything the asker might lack, not only proposals above its watermark
    vouch_in_order: bool = True  # a stream with a gap vouches for nothing
    vouch_accepted: bool = True  # accepted and decided ones are listed too, proposed or not
    vouch_durable: bool = True  # nobody vouches beyond its durable reservation
    majority_bound: bool = True  # the watermark stays below what a majority vouches for
    undecided_holds: bool = True  # and below every undecided vote that is known
    ends_executed: bool = True  # what was admitted stands until it is executed, not until it is decided

    # Restart.
    reserved_clock: bool = True  # a clock starts again above everything it may have said
    no_old_copy: bool = True  # a member that shows less of its log than was seen does not vote

    # Forgetting.
    all_settled: bool = True  # dropped when every member is past it, not a majority
    durable_settled: bool = True  # only what is durable counts as known

    # Catching up.
    catch_up_decides: bool = True  # what was caught up with brings the decisions of the living

    # Membership.
    seal_stops: bool = True  # sealed: nothing is promised, accepted or coordinated any more
    seal_vouches: bool = True  # sealed: nothing is vouched for
    carry: bool = True  # a start record carries what was or may have been decided
    floor: bool = True  # clocks move past the highest sealed clock
    durable_install: bool = True  # carried values are written even when known
    epoch_scope: bool = True  # proposals of a former epoch are void
    epoch_match: bool = True  # votes of another epoch do not count
    start_reached: bool = True  # nobody acts before its durable state is at that of the start record


ALL = Rules()
