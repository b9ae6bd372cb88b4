"""Poisson samples: every row by itself at the stated rate, and nothing that a plan's seed could tell."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from aimass.client.private_sampling import PersonSampler, RowSampler, VirtualBatch, poisson_sample
from aimass.proto.errors import BadInput
from tests.support.dp_looks import WORST, inclusion, normal

ROWS, RATE, BATCHES = 400, 0.1, 2_000


def seeded(seed: int) -> random.Random:
    return random.Random(seed)


def test_rows_are_drawn_by_themselves_at_the_stated_rate() -> None:
    token = seeded(7).randbytes
    found = inclusion([poisson_sample(ROWS, RATE, token=token) for _ in range(BATCHES)], ROWS, RATE)
    assert max(found.values()) < WORST, found


def test_shuffled_batches_and_wrong_rates_are_told_from_poisson_samples() -> None:
    chance = np.random.default_rng(7)
    shuffled = [part for _ in range(BATCHES // 10) for part in np.split(chance.permutation(ROWS), 10)]
    found = inclusion(shuffled, ROWS, RATE)
    assert found["spread"] > WORST
    assert found["again"] > WORST
    fixed = [chance.choice(ROWS, int(ROWS * RATE), replace=False) for _ in range(BATCHES)]
    assert inclusion(fixed, ROWS, RATE)["spread"] > WORST
    wrong = [poisson_sample(ROWS, RATE * 1.02, token=chance.bytes) for _ in range(BATCHES)]
    assert inclusion(wrong, ROWS, RATE)["total"] > WORST
    clumped = [np.repeat(poisson_sample(ROWS // 2, RATE, token=chance.bytes) * 2, 2) for _ in range(BATCHES)]
    clumped = [batch + np.arange(len(batch)) % 2 for batch in clumped]
    assert inclusion(clumped, ROWS, RATE)["pairs"] > WORST


def test_a_cap_cuts_at_random_and_only_what_lies_above_it() -> None:
    token = seeded(7).randbytes
    batches = [poisson_sample(ROWS, 0.5, cap=190, token=token) for _ in range(BATCHES)]
    assert max(len(batch) for batch in batches) == 190
    assert min(len(batch) for batch in batches) < 190
    assert all((np.diff(batch) > 0).all() for batch in batches)
    counts = np.bincount(np.concatenate(batches), minlength=ROWS)
    mean = counts.mean()
    # Nobody is cut more than others: the counts' spread is at most a binomial's.
    assert normal(float(((counts - mean) ** 2).sum() / (mean * (1 - mean / BATCHES))), ROWS - 1, 2 * ROWS) < WORST


def test_one_and_tiny_rates_and_no_rows_are_no_special_cases() -> None:
    assert poisson_sample(5, 1.0).tolist() == [0, 1, 2, 3, 4]
    assert poisson_sample(0, 0.5).tolist() == []
    assert poisson_sample(1_000, 1e-300).tolist() == []
    assert len(poisson_sample(1_000, math.nextafter(1.0, 0.0))) == 1_000
    for bad in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(BadInput):
            poisson_sample(5, bad)


def test_two_samples_from_the_operating_system_differ() -> None:
    assert poisson_sample(4_000, 0.5).tolist() != poisson_sample(4_000, 0.5).tolist()


COUNTS = np.random.default_rng(3).integers(1, 12, 60)
OWNERS = np.repeat(np.arange(60), COUNTS)[np.random.default_rng(4).permutation(COUNTS.sum())].astype(np.int64)
MOST = 4


def drawn_by_person(steps: int, rate: float = RATE, most: int = MOST, size: int = 8) -> list[list[VirtualBatch]]:
    sampler = PersonSampler(OWNERS, rate, None, most, size, seeded(7).randbytes)
    return [list(sampler.draw()) for _ in range(steps)]


def test_a_virtual_batch_has_whole_persons_and_no_more_rows_than_it_may() -> None:
    for step in drawn_by_person(200, 0.5):
        seen: list[int] = []
        for batch in step:
            assert batch.persons is not None
            assert len(batch.rows) == len(batch.persons) <= 8
            owners = OWNERS[batch.rows]
            for person in range(int(batch.persons[-1]) + 1):
                (owner,) = set(owners[batch.persons == person])
                assert (batch.persons == person).sum() == min(MOST, COUNTS[owner])
                seen.append(int(owner))
        assert len(seen) == len(set(seen))
        assert len({row for batch in step for row in batch.rows}) == sum(len(batch.rows) for batch in step)


def test_persons_are_drawn_by_themselves_at_the_stated_rate_however_many_rows_they_have() -> None:
    people = [
        np.unique(OWNERS[np.concatenate([np.empty(0, int), *(batch.rows for batch in step)]).astype(int)])
        for step in drawn_by_person(BATCHES)
    ]
    found = inclusion(people, 60, RATE)
    assert max(found.values()) < WORST, found
    by_row = [np.unique(OWNERS[poisson_sample(len(OWNERS), RATE, token=seeded(step).randbytes)]) for step in range(500)]
    assert inclusion(by_row, 60, RATE)["rows"] > WORST


def test_the_rows_of_a_drawn_person_are_chosen_alike_and_anew_each_time() -> None:
    steps = drawn_by_person(BATCHES, 1.0)
    times = np.bincount(np.concatenate([batch.rows for step in steps for batch in step]), minlength=len(OWNERS))
    for person, count in enumerate(COUNTS):
        of, share = times[person == OWNERS], min(1.0, MOST / count)
        assert of.sum() == BATCHES * min(MOST, count)
        if share < 1:  # a count's variance is a binomial's, and counts of one person add up to a constant
            square = float(((of - BATCHES * share) ** 2).sum() / (BATCHES * share * (1 - share)))
            assert normal(square, count, 2 * count**2 / (count - 1)) < WORST


def test_a_table_of_persons_by_places_holds_not_much_more_than_the_rows() -> None:
    counts = [1] * 40 + [2, 3, 32, 60]
    sampler = PersonSampler(np.repeat(np.arange(len(counts)), counts), 1.0, None, 32, 64)
    batches = [np.bincount(batch.persons) for batch in sampler.draw() if batch.persons is not None]
    assert [held.max() for held in batches] == [2, 3, 32]
    assert all(len(held) * held.max() <= 2 * held.sum() for held in batches)


def test_no_person_and_persons_that_do_not_fit_are_no_special_cases() -> None:
    assert drawn_by_person(3, 1e-300) == [[], [], []]
    with pytest.raises(BadInput) as refused:
        PersonSampler(OWNERS, RATE, None, 9, 8)
    assert refused.value.code == "private.rows"
    capped = PersonSampler(OWNERS, 1.0, 5, MOST, 8)
    people = {int(owner) for batch in capped.draw() for owner in OWNERS[batch.rows]}
    assert len(people) == 5


def test_rows_are_drawn_in_parts_of_the_size() -> None:
    batches = list(RowSampler(10, 1.0, None, 4).draw())
    assert [batch.rows.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert {batch.persons is None for batch in batches} == {True}
