"""A version that is no worse is left alone, one that is worse is found within some hundred requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from aimass.server.serving.watching.figures import NONE, Figures, spread_of
from aimass.server.serving.watching.judging import Fault, fault
from aimass.server.serving.watching.settings import Limits
from tests.support.watching import did

LIMITS = Limits()
Draw = Callable[[np.random.Generator, int], np.ndarray]


def _why(found: Fault | None) -> str:
    assert found is not None
    return found.why


def test_a_few_errors_say_nothing_and_five_in_a_row_do() -> None:
    assert fault(did(5, errors=1), did(100), LIMITS) is None
    assert fault(did(4, errors=4), did(100), LIMITS) is None, "they may have died together"
    assert _why(fault(did(8, invalid=8), did(100), LIMITS)) == "it failed 8 of 8 requests, and may fail 1 %"
    assert fault(did(8, errors=8), NONE, LIMITS) is not None, "without anything beside it the limit alone counts"


def test_errors_are_a_versions_own_and_lateness_and_slowness_may_pass() -> None:
    before = did(200)
    found = [fault(new, before, LIMITS) for new in (did(50, errors=25), did(50, late=25), did(50, took_s=1.0))]
    assert [one.passing for one in found if one] == [False, True, True]


def test_what_both_fail_and_both_are_late_with_is_nobodys_fault() -> None:
    assert fault(did(300, errors=90), did(3_000, errors=900), LIMITS) is None
    assert fault(did(300, late=90, took_s=2.5), did(3_000, late=900, took_s=2.5), LIMITS) is None


def test_a_burst_that_the_former_version_might_have_had_takes_nothing_back() -> None:
    assert fault(did(1_000, late=11), did(1_000), LIMITS) is None


def test_of_a_settled_version_errors_alone_count() -> None:
    assert fault(did(500, late=400, took_s=3.0), None, LIMITS) is None
    assert "it failed 30 of 500 requests" in _why(fault(did(500, errors=30), None, LIMITS))


def test_slow_is_what_takes_times_as_long_and_more_than_the_slack_longer() -> None:
    assert fault(did(200, took_s=0.006), did(2_000, took_s=0.002), LIMITS) is None, "within the slack"
    why = _why(fault(did(50, took_s=0.1), did(500, took_s=0.02), LIMITS))
    assert why == (
        "100 % of its answers took more than 51.9 ms, where 0 % of the version before it took more than 31.2 ms"
    )


def test_one_answer_to_all_where_the_former_version_had_several_is_a_fault() -> None:
    former = dataclasses.replace(did(900), answers=(500, 400, 0))
    assert fault(dataclasses.replace(did(60), answers=(30, 30, 0)), former, LIMITS) is None
    assert fault(dataclasses.replace(did(9), answers=(9, 0, 0)), former, LIMITS) is None, "too few to say"
    assert _why(fault(dataclasses.replace(did(60), answers=(60, 0, 0)), former, LIMITS)) == (
        "it gave the same answer to all 60 requests that were looked at; the version before it gave others to 44.4 %"
    )
    prober = dataclasses.replace(did(900), answers=(900, 0, 0))
    assert fault(dataclasses.replace(did(60), answers=(60, 0, 0)), prober, LIMITS) is None


# ---------------------------------------------------------------- whole rollouts


def _some(rng: np.random.Generator, requests: float, errs: float, took: Draw) -> Figures:
    drawn = int(rng.poisson(requests))
    return Figures(drawn, int(rng.binomial(drawn, errs)), 0, 0, spread_of(list(took(rng, drawn))))


def _refused_after(rng: np.random.Generator, new: tuple[float, Draw], old: tuple[float, Draw]) -> int | None:
    """Requests that a version had before it was refused, judged each second of a rollout at 20 requests a second: 5 %
    of them for 100 s, half for 30 s, then all for a minute beside what was seen of the former."""
    did, before = NONE, NONE
    for second in range(190):
        share = 0.05 if second < 100 else 0.5 if second < 130 else 1.0
        did += _some(rng, 20 * share, *new)
        before += _some(rng, 20 * (1 - share), *old) if share < 1 else NONE
        if fault(did, before, LIMITS) is not None:
            return did.requests
    return None


def _normal(median_s: float, sigma: float) -> Draw:
    return lambda rng, requests: median_s * np.exp(sigma * rng.standard_normal(requests))


def _hiccups(median_s: float) -> Draw:
    """One request in 200 takes twenty times as long."""
    return lambda rng, requests: median_s * np.where(rng.random(requests) < 0.005, 20.0, 1.0)


_QUICK = _normal(0.02, 0.2)


@pytest.mark.parametrize(
    ("errs", "took"),
    [(0.003, _QUICK), (0.01, _QUICK), (0.02, _QUICK), (0.0, _normal(0.02, 1.5)), (0.0, _hiccups(0.003))],
)
def test_a_version_like_its_former_is_left_alone(errs: float, took: Draw) -> None:
    rng = np.random.default_rng(5)
    assert [_refused_after(rng, (errs, took), (errs, took)) for _ in range(4)] == [None] * 4


def test_at_the_very_limit_fewer_than_alpha_are_refused_whenever_one_looks() -> None:
    """One in 50 is allowed here: with errors alone the tests may use up a quarter of that."""
    rng, limits, refused = np.random.default_rng(7), Limits(alpha=0.02), 0
    for _ in range(400):
        counts = np.cumsum(rng.binomial([[20], [20]], [[0.03], [0.02]], (2, 80)), axis=1)
        looks = [(Figures(20 * at, int(new)), Figures(20 * at, int(old))) for at, (new, old) in enumerate(counts.T, 1)]
        refused += any(fault(new, old, limits) is not None for new, old in looks)
    assert refused <= 2


def test_what_is_enough_follows_from_alpha() -> None:
    new, old = did(60, errors=12), did(400, errors=2)
    assert [fault(new, old, Limits(alpha=alpha)) is not None for alpha in (0.1, 0.02, 1e-3, 1e-5)] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("new", "old", "most"),
    [
        ((0.5, _QUICK), (0.0, _QUICK), 40),
        ((0.1, _QUICK), (0.02, _QUICK), 1_000),
        ((0.0, _normal(0.06, 1.0)), (0.0, _normal(0.02, 1.0)), 600),
        ((0.0, _hiccups(0.06)), (0.0, _hiccups(0.02)), 60),
    ],
)
def test_a_version_that_errs_five_times_as_often_or_is_three_times_as_slow_is_refused_within_some_hundred_requests(
    new: tuple[float, Draw], old: tuple[float, Draw], most: int
) -> None:
    rng = np.random.default_rng(6)
    found = [_refused_after(rng, new, old) for _ in range(6)]
    assert all(requests is not None and requests <= most for requests in found), found
