"""Poisson samples: every row by itself at the stated rate, and nothing that a plan's seed could tell."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from aimass.client.private_sampling import poisson_sample
from aimass.proto.errors import BadInput

ROWS, RATE, BATCHES = 400, 0.1, 2_000
_WORST = 5.0
"""Deviations: one run in two million is wrong by more."""


def seeded(seed: int) -> random.Random:
    return random.Random(seed)


def normal(value: float, mean: float, variance: float) -> float:
    """How many deviations a statistic lies from its mean."""
    return abs(value - mean) / math.sqrt(variance)


def verdicts(batches: list[np.ndarray], rows: int, rate: float) -> dict[str, float]:
    """Deviations of what Poisson sampling fixes: counts by row, sizes of batches, pairs of rows together.

    Each row's count is binomial, so their squared deviations sum to chi-square of `rows` degrees. Sizes are binomial:
    their sum, and their spread. Neighbours are together in rate^2 of the batches.
    """
    chosen = np.zeros((len(batches), rows), bool)
    for place, batch in enumerate(batches):
        chosen[place, batch] = True
    count, spread = len(batches), rate * (1 - rate)
    square = float(((chosen.sum(0) - count * rate) ** 2).sum() / (count * spread))
    sizes = chosen.sum(1).astype(float)
    size_square = float(((sizes - rows * rate) ** 2).sum() / (rows * spread))
    pairs = float((chosen[:, ::2] & chosen[:, 1::2]).sum())
    trials = count * (rows // 2)
    twice = chosen[:-1] & chosen[1:]
    return {
        "rows": normal(square, rows, 2 * rows * (1 + 3 / (count * spread))),
        "total": normal(float(sizes.sum()), count * rows * rate, count * rows * spread),
        "spread": normal(size_square, count, 2 * count * (1 + 3 / (rows * spread))),
        "pairs": normal(pairs, trials * rate**2, trials * rate**2 * (1 - rate**2)),
        "again": normal(float(twice.sum()), (count - 1) * rows * rate**2, (count - 1) * rows * rate**2),
    }


def test_rows_are_drawn_by_themselves_at_the_stated_rate() -> None:
    token = seeded(7).randbytes
    found = verdicts([poisson_sample(ROWS, RATE, token=token) for _ in range(BATCHES)], ROWS, RATE)
    assert max(found.values()) < _WORST, found


def test_shuffled_batches_and_wrong_rates_are_told_from_poisson_samples() -> None:
    chance = np.random.default_rng(7)
    shuffled = [part for _ in range(BATCHES // 10) for part in np.split(chance.permutation(ROWS), 10)]
    found = verdicts(shuffled, ROWS, RATE)
    assert found["spread"] > _WORST
    assert found["again"] > _WORST
    fixed = [chance.choice(ROWS, int(ROWS * RATE), replace=False) for _ in range(BATCHES)]
    assert verdicts(fixed, ROWS, RATE)["spread"] > _WORST
    wrong = [poisson_sample(ROWS, RATE * 1.02, token=chance.bytes) for _ in range(BATCHES)]
    assert verdicts(wrong, ROWS, RATE)["total"] > _WORST
    clumped = [np.repeat(poisson_sample(ROWS // 2, RATE, token=chance.bytes) * 2, 2) for _ in range(BATCHES)]
    clumped = [batch + np.arange(len(batch)) % 2 for batch in clumped]
    assert verdicts(clumped, ROWS, RATE)["pairs"] > _WORST


def test_a_cap_cuts_at_random_and_only_what_lies_above_it() -> None:
    token = seeded(7).randbytes
    batches = [poisson_sample(ROWS, 0.5, cap=190, token=token) for _ in range(BATCHES)]
    assert max(len(batch) for batch in batches) == 190
    assert min(len(batch) for batch in batches) < 190
    assert all((np.diff(batch) > 0).all() for batch in batches)
    counts = np.bincount(np.concatenate(batches), minlength=ROWS)
    mean = counts.mean()
    # Nobody is cut more than others: the counts' spread is at most a binomial's.
    assert normal(float(((counts - mean) ** 2).sum() / (mean * (1 - mean / BATCHES))), ROWS - 1, 2 * ROWS) < _WORST


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
