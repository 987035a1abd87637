"""The rules whose removal breaks something, by name. All are on in production; the simulator removes one and must
notice.

The names are those of the table in docs/internals/coherency.md, which says what each prevents.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """One attribute a rule; False removes it."""

    # Masters: transactions.
    propose_waits: bool = True  # nothing is proposed against a lease of somebody else
    grants_wait: bool = True  # nothing is granted over an open write
    fence: bool = True  # what was written under a lease is refused where that very grant no longer stands
    release_clock: bool = True  # a release moves the clock past what was seen and written

    # Masters: sessions.
    new_token: bool = True  # a token is never given twice
    frozen: bool = True  # what is recalled is not renewed
    renewal_recalls: bool = True  # a renewal names what is recalled
    overdue_ends: bool = True  # a recall left unanswered ends the token, too
    grace: bool = True  # a restarted master votes against nobody's leases for a term
    grace_grants: bool = True  # and grants nothing
    queue: bool = True  # older asks go first
    ask_after: bool = True  # an ask waits for the releases sent before it
    seal_stops: bool = True  # who votes no more renews nothing

    # Clients.
    majority: bool = True  # a lease counts by a majority of masters
    one_epoch: bool = True  # of one epoch
    from_sent: bool = True  # a term is counted from when its renewal was asked for
    shortened: bool = True  # and is shorter than the master's, by the drift of both clocks
    released_since: bool = True  # a grant counts less what was released, or recalled, since it was made
    same_token: bool = True  # what was granted under another token is gone
    tokens_of_grants: bool = True  # a write names the masters that granted just this, not all the session knows
    newest: bool = True  # a lease says how new data must be: as the newest that any master of the majority knows


ALL = Rules()
