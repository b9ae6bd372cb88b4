"""Shards lent for a while: each to one at a time, each done once, none forgotten."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aimass.proto.errors import NotFound
from aimass.server.datasets.leases import LONGEST_S, Lease, LeaseTable, free, lend, release, renew
from aimass.server.datasets.ranges import count, first, minus, numbers_of, union

TABLE = LeaseTable(shards=5)


def test_the_lowest_free_shards_are_lent_and_nobody_else_gets_them() -> None:
    table, one = lend(TABLE, "a", "ada", 2, 0.0, 10.0)
    table, two = lend(table, "b", "bob", 9, 0.0, 10.0)
    assert one == Lease(id="a", holder="ada", shards=((1, 2),), until=10.0)
    assert two is not None
    assert two.shards == ((3, 5),)
    assert lend(table, "c", "cyd", 1, 0.0, 10.0)[1] is None


def test_what_is_not_renewed_is_lent_again() -> None:
    table, _ = lend(TABLE, "a", "ada", 5, 0.0, 10.0)
    assert lend(table, "b", "bob", 5, 9.9, 10.0)[1] is None
    later, lease = lend(table, "b", "bob", 1, 10.0, 10.0)
    assert lease is not None
    with pytest.raises(NotFound):
        release(later, "a", "ada", ((1, 1),), 10.0)


def test_a_renewed_lease_holds_for_longer_and_never_without_end() -> None:
    table, _ = lend(TABLE, "a", "ada", 5, 0.0, 10.0)
    table, longer = renew(table, "a", "ada", 5.0, 1e9)
    assert longer.until == 5.0 + LONGEST_S
    assert lend(table, "b", "bob", 1, 11.0, 10.0)[1] is None
    with pytest.raises(NotFound):
        renew(table, "a", "bob", 6.0, 10.0)


def test_what_is_given_back_undone_is_lent_again_and_what_is_done_is_not() -> None:
    table, _ = lend(TABLE, "a", "ada", 3, 0.0, 10.0)
    with pytest.raises(NotFound):
        release(table, "a", "ada", ((1, 4),), 1.0)
    table = release(table, "a", "ada", ((2, 2),), 1.0)
    assert free(table) == ((1, 1), (3, 5))
    assert not table.over
    table, _ = lend(table, "b", "ada", 9, 1.0, 10.0)
    assert release(table, "b", "ada", ((1, 1), (3, 5)), 2.0).over


class Workers(RuleBasedStateMachine):
    """Any number of workers that lend, renew, give back and fall silent."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.now, self.ids = LeaseTable(shards=20), 0.0, 0

    @rule(holder=st.sampled_from("abc"), most=st.integers(1, 8), term=st.floats(0.5, 20))
    def lends(self, holder: str, most: int, term: float) -> None:
        self.ids += 1
        self.table, lease = lend(self.table, str(self.ids), holder, most, self.now, term)
        assert lease is None or 1 <= count(lease.shards) <= most

    @rule(seconds=st.floats(0.1, 10))
    def waits(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    def gives_back(self, data: st.DataObject) -> None:
        alive = [lease for lease in self.table.leases if lease.until > self.now]
        if alive:
            lease = data.draw(st.sampled_from(alive))
            done = first(lease.shards, data.draw(st.integers(0, count(lease.shards))))
            before = self.table.done
            self.table = release(self.table, lease.id, lease.holder, done, self.now)
            assert self.table.done == union(before, done)

    @invariant()
    def each_shard_is_free_lent_once_or_done(self) -> None:
        lent = [number for lease in self.table.leases for number in numbers_of(lease.shards)]
        everywhere = [*lent, *numbers_of(free(self.table)), *numbers_of(self.table.done)]
        assert sorted(everywhere) == list(range(1, 21))
        assert minus(self.table.done, ((1, 20),)) == ()


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
