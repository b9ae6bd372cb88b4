"""Each row that passes by is as likely in a sample as any other, and no more of them are held than was said."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from aimass.server.serving.watching.sample import Sample


def _sampled(sample: Sample, sizes: Iterable[int]) -> Sequence[float]:
    """The rows that are held after requests of these many rows, which are numbered as they come."""
    first = 0
    for size in sizes:
        rows = np.arange(first, first + size, dtype=np.float64)
        sample.add({"age": rows[:, None]}, {"label": -rows, "of_all": np.zeros(size + 1)})
        first += size
    asked = np.concatenate([one["age"].reshape(-1) for one in sample.inputs]) if sample.inputs else np.zeros(0)
    answered = np.concatenate([one["label"] for one in sample.outputs]) if sample.outputs else np.zeros(0)
    assert sorted(asked) == sorted(-answered)
    assert len(set(asked)) == len(asked)
    return sorted(asked)


@pytest.mark.parametrize(
    "sizes", [[1] * 90, [90], [1] * 30 + [60], [60] + [1] * 30, [7] * 12 + [6]], ids=["ones", "one", "a", "b", "sevens"]
)
def test_every_row_is_as_likely_in_it_as_any_other(sizes: Sequence[int]) -> None:
    chance, found, trials = random.Random(1), np.zeros(90), 1_500
    for _ in range(trials):
        held = _sampled(Sample(10, chance), sizes)
        assert len(held) == 10
        found[np.array(held, dtype=int)] += 1
    expected = trials * 10 / 90
    chi_squared = float(((found - expected) ** 2 / expected).sum())
    assert chi_squared < 135, "89 is its mean, and one of a thousand is beyond 135"


def test_fewer_rows_are_all_in_it() -> None:
    assert _sampled(Sample(200, random.Random(1)), [1, 30, 1, 0, 100]) == list(range(132))
    assert _sampled(Sample(200, random.Random(1)), [0]) == []


def test_of_a_large_request_no_more_rows_are_held_than_was_said() -> None:
    assert len(_sampled(Sample(200, random.Random(1)), [10_000, 1, 10_000])) == 200


def test_of_large_rows_fewer_are_held() -> None:
    sample, image = Sample(200, random.Random(1)), np.zeros((1, 1024, 1024, 3), np.uint8)
    for _ in range(50):
        sample.add({"scan": image}, {"label": np.zeros(1)})
    assert sum(len(one["scan"]) for one in sample.inputs) == 5
