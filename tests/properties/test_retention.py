"""What is promised as kept stays kept as long as the policy says, however often and whenever is pruned."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gavel.filesystem import retention
from gavel.filesystem.retention import ALL, PERIODS, Keep, Policy
from gavel.history.horizon import Horizon
from gavel.keys import tid as tids

SECOND = 1_000_000
DAY = 86_400
START = 1_700_000_000 * SECOND

spans = st.integers(1, 90 * DAY)
policies = st.builds(
    lambda first, rest: (Keep(ALL, first), *(Keep(what, rest[what]) for what in PERIODS if what in rest)),
    spans,
    st.dictionaries(st.sampled_from(PERIODS), st.one_of(spans, st.none()), max_size=3),
)
times = st.lists(st.integers(0, 100 * DAY), min_size=1, max_size=6).map(
    lambda some: [START + one * SECOND for one in sorted(some)]
)
named = st.lists(st.integers(0, 100 * DAY * SECOND).map(lambda one: tids.make(START - 5 + one)), max_size=4)
CREATED = tids.make(START - 50 * DAY * SECOND)


def run(now: int, policy: list[Policy], snapshots: list[int], before: Horizon) -> Horizon:
    return retention.target(now, CREATED, tids.make(now), policy, snapshots, before)


def promised(tid: int, now: int, policy: Policy) -> bool:
    """Word for word what a policy says of the state as of a tid, for tids at whole hours."""
    age = now - tids.micros(tid)
    for keep in policy:
        within = keep.span is None or age <= keep.span * SECOND
        moment = tids.micros(tid)
        whole = keep.what == ALL or moment in retention.ends(keep.what, moment, moment + 1)
        if within and whole:
            return True
    return False


@given(policies, times, named)
def test_pruning_often_only_thins(policy: Policy, moments: list[int], snapshots: list[int]) -> None:
    before = Horizon()
    for now in moments:
        after = run(now, [policy], snapshots, before)
        assert after.horizon >= before.horizon
        assert all(before.readable(tid) for tid in after.kept)
        assert list(after.kept) == sorted(set(after.kept))
        assert all(tid < after.horizon for tid in after.kept)
        before = after


@given(policies, times, st.data())
def test_what_the_policy_says_can_be_read_and_what_it_does_not_is_gone(
    policy: Policy, moments: list[int], data: st.DataObject
) -> None:
    horizon = Horizon()
    for now in moments:
        horizon = run(now, [policy], [], horizon)
    now = moments[-1]
    created = tids.micros(CREATED)
    for _ in range(20):
        hour = data.draw(st.integers(0, (now - created) // (3600 * SECOND)))
        tid = tids.end_of((created // (3600 * SECOND) + 1 + hour) * 3600 * SECOND)
        if tids.micros(tid) <= now:
            assert horizon.readable(tid) == promised(tid, now, policy)


@given(policies, times, named)
def test_pruning_often_keeps_what_pruning_once_keeps(policy: Policy, moments: list[int], snapshots: list[int]) -> None:
    often = Horizon()
    for now in moments:
        often = run(now, [policy], snapshots, often)
    assert often == run(moments[-1], [policy], snapshots, Horizon())


@given(policies, policies, times, named)
def test_several_policies_keep_what_each_keeps(
    one: Policy, other: Policy, moments: list[int], snapshots: list[int]
) -> None:
    both = single = Horizon()
    for now in moments:
        both = run(now, [one, other], snapshots, both)
        single = run(now, [one], snapshots, single)
        assert both.horizon <= single.horizon
        assert all(both.readable(tid) for tid in single.kept)


@given(policies, policies, times)
def test_a_change_of_policy_brings_nothing_back(one: Policy, other: Policy, moments: list[int]) -> None:
    before = Horizon()
    for n, now in enumerate(moments):
        after = run(now, [other if n % 2 else one], [], before)
        assert all(before.readable(tid) for tid in after.kept)
        assert before.readable(after.horizon)
        before = after


@given(policies)
def test_the_text_of_a_policy_says_all_of_it(policy: Policy) -> None:
    assert retention.parse(retention.show(policy)) == policy
