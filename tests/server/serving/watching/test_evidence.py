"""Evidence is what its formula says, and of what is innocent it is rarely strong, whenever one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aimass.server.serving.watching.evidence import Rate, mixed, more_often, too_often


def _coins(rng: np.random.Generator, share: float, looks: int, each: int) -> list[Rate]:
    counts = np.cumsum(rng.binomial(each, share, looks))
    return [Rate(int(events), each * (look + 1)) for look, events in enumerate(counts)]


def test_evidence_against_a_limit_is_a_beta_average_over_the_likelihood_there() -> None:
    shares = (np.arange(200_000) + 0.5) / 200_000
    prior = 1 / (np.pi * np.sqrt(shares * (1 - shares)))
    average = (shares**3 * (1 - shares) ** 7 * prior).mean()
    assert too_often(Rate(3, 10), 0.05) == pytest.approx(math.log(average / (0.05**3 * 0.95**7)), abs=1e-3)


def test_the_likeliest_innocent_rates_are_those_that_a_search_finds() -> None:
    one, other, shares = Rate(20, 100), Rate(30, 400), np.arange(1, 60_000) / 100_000
    search = (
        one.events * np.log(1.5 * shares)
        + (one.requests - one.events) * np.log1p(-1.5 * shares)
        + other.events * np.log(shares)
        + (other.requests - other.events) * np.log1p(-shares)
    ).max()
    averages = sum(too_often(rate, 1e-9) + rate.events * math.log(1e-9) for rate in (one, other))
    assert more_often(one, other, 1.5) == pytest.approx(averages - search, abs=1e-4)


@pytest.mark.parametrize(
    ("one", "other"),
    [(Rate(0, 0), Rate(0, 0)), (Rate(5, 5), Rate(0, 0)), (Rate(1, 10), Rate(9, 90)), (Rate(0, 9), Rate(1, 9))],
)
def test_nothing_is_said_of_what_happens_no_more_often_or_where_nothing_is_known(one: Rate, other: Rate) -> None:
    assert more_often(one, other) == 0.0


def test_all_of_one_and_none_of_the_other_is_strong_evidence() -> None:
    assert more_often(Rate(20, 20), Rate(0, 20)) > math.log(1e6)
    assert more_often(Rate(20, 20), Rate(0, 20), 1.5) > math.log(1e5)
    assert too_often(Rate(20, 20), 0.01) > math.log(1e30)


def test_the_mean_of_evidence_is_of_its_exponentials() -> None:
    assert mixed([0.0, math.log(3.0)]) == pytest.approx(math.log(2.0))
    assert mixed([900.0, 900.0]) == pytest.approx(900.0)


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_of_the_innocent_one_in_ten_at_most_ever_looks_guilty_at_one_in_ten(share: float) -> None:
    """Asked 200 times each; a test of one look at 10 % would accuse more than half."""
    rng, guilty = np.random.default_rng(1), 0
    for _ in range(200):
        pairs = zip(_coins(rng, share, 200, 5), _coins(rng, share, 200, 20), strict=True)
        guilty += any(more_often(one, other) > math.log(10) for one, other in pairs)
    assert guilty <= 20 + 3 * math.sqrt(20)
