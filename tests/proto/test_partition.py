"""Each rule deals every row once, the same on every call, and does what its name says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.proto.partition import Labels, Parts, by_label, by_value, dirichlet, iid, in_shares, sorted_shards

DIGITS = np.random.Generator(np.random.PCG64(0)).integers(0, 10, 2_000)
RULES: dict[str, Callable[[Labels, int, int], Parts]] = {
    "iid": lambda labels, partners, seed: iid(len(labels), partners, seed),
    "shares": lambda labels, partners, seed: in_shares(len(labels), range(1, partners + 1), seed),
    "dirichlet": lambda labels, partners, seed: dirichlet(labels, partners, 0.3, seed, 2),
    "labels": lambda labels, partners, seed: by_label(labels, partners, 2, seed),
    "shards": lambda labels, partners, seed: sorted_shards(labels, partners, 2, seed),
    "values": lambda labels, partners, seed: by_value(labels, partners),
}


@pytest.mark.parametrize("name", list(RULES))
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda held: np.array(held, np.int64)),
    partners=st.integers(1, 8),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_row_is_dealt_once_in_ascending_order_and_again_the_same(
    name: str, labels: Labels, partners: int, seed: int
) -> None:
    try:
        parts = RULES[name](labels, partners, seed)
    except BadInput:
        return
    assert len(parts) == partners
    assert all(len(part) and (np.diff(part) > 0).all() and part.dtype == np.int64 for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all(map(np.array_equal, parts, RULES[name](labels, partners, seed)))


@pytest.mark.parametrize("name", [name for name in RULES if name != "values"])
def test_another_seed_deals_otherwise(name: str) -> None:
    first, second = (RULES[name](DIGITS, 10, seed) for seed in (1, 2))
    assert not all(map(np.array_equal, first, second))


def test_parts_are_the_same_on_every_machine() -> None:
    """Golden: who changes a rule changes the data of every experiment that was written down."""
    found = {
        name: hashlib.sha256(b"|".join(part.astype("<i8").tobytes() for part in rule(DIGITS, 10, 7))).hexdigest()[:16]
        for name, rule in RULES.items()
    }
    assert found == GOLDEN


def test_iid_parts_differ_by_one_row_at_most() -> None:
    assert sorted({len(part) for part in iid(1_003, 10, 1)}) == [100, 101]


def test_shares_are_kept() -> None:
    assert [len(part) for part in in_shares(600, (3, 2, 1), 1)] == [300, 200, 100]


def test_a_small_concentration_makes_odd_partners_and_a_large_one_equal_ones() -> None:
    def oddness(alpha: float) -> float:
        parts = dirichlet(DIGITS, 10, alpha, seed=3)
        return float(np.mean([np.bincount(DIGITS[part], minlength=10).max() / len(part) for part in parts]))

    assert oddness(0.05) > 0.5
    assert oddness(1_000.0) < 0.2


def test_nobody_has_fewer_rows_than_the_smallest_however_many_partners() -> None:
    parts = dirichlet(DIGITS, 500, 0.05, seed=3, smallest=3)
    assert min(map(len, parts)) == 3
    assert sum(map(len, parts)) == len(DIGITS)


def test_partners_have_as_many_labels_as_was_said() -> None:
    parts = by_label(DIGITS, 20, 2, seed=1)
    assert {len(np.unique(DIGITS[part])) for part in parts} == {2}
    holders = np.zeros(10)
    for part in parts:
        holders[np.unique(DIGITS[part])] += 1
    assert set(holders) == {4}


def test_sorted_shards_are_those_of_the_paper() -> None:
    labels = np.repeat(np.arange(10), 600)
    parts = sorted_shards(labels, 100, 2, seed=1)
    assert {len(part) for part in parts} == {60}
    assert max(len(np.unique(labels[part])) for part in parts) == 2


def test_rows_of_one_value_stay_together() -> None:
    for partners in (None, 3):
        parts = by_value(DIGITS, partners)
        assert len(parts) == (partners or 10)
        held = [set(DIGITS[part]) for part in parts]
        assert sum(map(len, held)) == len(set.union(*held)) == 10
    assert max(map(len, parts)) - min(map(len, parts)) < 250


@pytest.mark.parametrize(
    ("deal", "code"),
    [
        (lambda: iid(3, 4, 1), "partition.partners"),
        (lambda: iid(3, 0, 1), "partition.partners"),
        (lambda: dirichlet(DIGITS, 1_001, 0.3, 1, smallest=2), "partition.partners"),
        (lambda: dirichlet(DIGITS, 5, 0.0, 1), "partition.alpha"),
        (lambda: dirichlet(DIGITS, 5, float("inf"), 1), "partition.alpha"),
        (lambda: by_label(DIGITS, 4, 2, 1), "partition.labels"),
        (lambda: by_label(DIGITS, 20, 11, 1), "partition.labels"),
        (lambda: by_label(np.array([0, 1, 1]), 3, 2, 1), "partition.empty"),
        (lambda: sorted_shards(DIGITS, 10, 0, 1), "partition.shards"),
        (lambda: by_value(DIGITS, 11), "partition.values"),
        (lambda: in_shares(10, (1, -1), 1), "partition.shares"),
        (lambda: in_shares(10, (1e12, 1), 1), "partition.empty"),
    ],
)
def test_what_cannot_be_dealt_is_refused(deal: Callable[[], Parts], code: str) -> None:
    with pytest.raises(BadInput) as refused:
        deal()
    assert refused.value.code == code


GOLDEN: dict[str, str] = {
    "iid": "f3122b0a6c1c5d88",
    "shares": "3a9e62a0246fc7f5",
    "dirichlet": "f513ae75cf8591a8",
    "labels": "abf1767d76e87481",
    "shards": "2581c143abcd8b02",
    "values": "81a0c5d9df9ef33c",
}
