"""Robust rules against their plainest form, against Flower's own, and against the worst that liars can send."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.robust import PROMISES, RULES, check_robust, least, withstands
from aimass.server.aggregation.robust import RobustSums, Singles
from tests.support.rules import oracle

FLOWER = json.loads((Path(__file__).parents[1] / "vectors" / "flower.json").read_text())["robust"]
Matrix = npt.NDArray[np.float64]


def applied(rule: str, x: Matrix, f: int) -> Matrix:
    """The rule through the door that drivers use, over contributions of two tensors whose weights nobody looks at."""
    made = [
        Contribution({"update": Group(10.0**place, {"a": row[:1], "b": row[1:].reshape(-1, 1)})}, {}, {})
        for place, row in enumerate(x)
    ]
    sums = RobustSums(Singles(made), rule, f)
    assert sums.weight("update") == 1
    return np.concatenate([sums.total("update", name).reshape(-1) for name in ("a", "b")])


@st.composite
def settings_of(draw: st.DrawFn, rules: tuple[str, ...] = tuple(RULES)) -> tuple[str, int, int, np.random.Generator]:
    """A rule, f, n that is enough, and a source of updates."""
    rule, f = draw(st.sampled_from(rules)), draw(st.integers(1, 4))
    n = least(rule, f) + draw(st.integers(0, 5))
    return rule, f, n, np.random.default_rng(draw(st.integers(0, 2**32)))


LIES: dict[str, Callable[[np.random.Generator, Matrix, int], Matrix]] = {
    "far": lambda rng, honest, f: rng.normal(size=(f, honest.shape[1])) * 1e5,
    "one heap": lambda rng, honest, f: np.tile(honest.mean(axis=0) - 50 * honest.std(axis=0), (f, 1)),
    "against the mean": lambda rng, honest, f: np.tile(-3 * honest.mean(axis=0), (f, 1)),
    "at an honest one": lambda rng, honest, f: np.tile(honest[0] + 1e-9, (f, 1)),
    "nothing": lambda rng, honest, f: np.zeros((f, honest.shape[1])),
}


def honest_and_lies(rng: np.random.Generator, n: int, f: int, lie: str) -> tuple[Matrix, Matrix]:
    """The honest, about a point away from zero; and all updates, in any order."""
    honest = rng.normal(size=(n - f, 7)) * rng.uniform(0.1, 2) + rng.normal(size=7) * 3
    return honest, rng.permutation(np.concatenate([honest, LIES[lie](rng, honest, f)]))


@given(settings_of(), st.sampled_from(list(LIES)))
def test_a_rule_is_its_plainest_form(case: tuple[str, int, int, np.random.Generator], lie: str) -> None:
    rule, f, n, rng = case
    _, x = honest_and_lies(rng, n, f, lie)
    scale = np.abs(oracle(rule, x, f)).max()
    np.testing.assert_allclose(applied(rule, x, f), oracle(rule, x, f), rtol=1e-5, atol=1e-5 * scale)


@given(settings_of(), st.sampled_from(list(LIES)))
def test_what_is_promised_of_a_rule_holds(case: tuple[str, int, int, np.random.Generator], lie: str) -> None:
    rule, f, n, rng = case
    honest, x = honest_and_lies(rng, n, f, lie)
    made, norms = applied(rule, x, f), np.linalg.norm(honest, axis=1)
    diameter = max(float(np.linalg.norm(one - other)) for one in honest for other in honest)
    if rule in ("median", "trimmed"):
        assert (made >= honest.min(axis=0) - 1e-12).all()
        assert (made <= honest.max(axis=0) + 1e-12).all()
    elif rule == "clipped":
        assert np.linalg.norm(made) <= norms.max() * (1 + 1e-9)
    elif rule == "geometric-median":
        assert np.linalg.norm(made) <= 2 * (n - f) / (n - 2 * f) * norms.max() * (1 + 1e-4)
    else:
        nearest = min(float(np.linalg.norm(made - one)) for one in honest)
        assert nearest <= (n - f - 2) ** 0.5 * diameter * (1 + 1e-9) + (diameter if rule == "multi-krum" else 0)
    assert np.linalg.norm(np.mean(x, axis=0)) > 1e3 or lie != "far"  # what the mean makes of it


@pytest.mark.parametrize("rule", ["median", "trimmed"])
def test_with_one_honest_partner_fewer_than_a_rule_needs_liars_lead_it_anywhere_so_it_is_refused(rule: str) -> None:
    x = np.concatenate([np.zeros((2, 7)), np.full((2, 7), 1e6)])
    assert np.median(x, axis=0).min() > 1e5
    with pytest.raises(BadInput, match=f"{rule} does not withstand 2 that lie among 4"):
        applied(rule, x, 2)


@given(settings_of())
def test_the_order_of_the_partners_decides_nothing(case: tuple[str, int, int, np.random.Generator]) -> None:
    rule, f, n, rng = case
    _, x = honest_and_lies(rng, n, f, "far")
    np.testing.assert_allclose(applied(rule, x, f), applied(rule, rng.permutation(x), f), rtol=1e-9, atol=1e-9)


@given(settings_of(), st.floats(1e-6, 1e3))
def test_updates_of_another_unit_make_the_same_in_that_unit(
    case: tuple[str, int, int, np.random.Generator], unit: float
) -> None:
    rule, f, n, rng = case
    x = rng.normal(size=(n, 7))
    np.testing.assert_allclose(applied(rule, x * unit, f), applied(rule, x, f) * unit, rtol=1e-6, atol=1e-6 * unit)


@pytest.mark.parametrize("rule", RULES)
def test_partners_that_all_send_the_same_get_it_back(rule: str) -> None:
    x = np.tile(np.arange(7.0), (5, 1))
    np.testing.assert_allclose(applied(rule, x, 1), x[0], rtol=1e-12)
    np.testing.assert_array_equal(applied(rule, 0 * x, 1), 0 * x[0])


def test_weiszfelds_point_is_where_the_sum_of_distances_is_least() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(9, 7))
    made = applied("geometric-median", x, 2)

    def cost(v: Matrix) -> float:
        return float(np.linalg.norm(x - v, axis=1).sum())

    assert all(
        cost(made) <= cost(made + step * rng.normal(size=7)) for step in (1e-3, 1e-2, 0.1, 1.0) for _ in range(50)
    )


def test_a_lie_however_far_away_has_lost_its_reach_after_any_iteration() -> None:
    """From the mean of the updates Weiszfeld's point would still be some ten thousand norms away."""
    x = np.random.default_rng(5).normal(size=(19, 7)) * 1e-3
    honest = np.linalg.norm(x[9:], axis=1).max()
    x[:9] = 1e6
    assert np.linalg.norm(applied("geometric-median", x, 9)) <= 20 * honest


@pytest.mark.parametrize("case", FLOWER["cases"], ids=lambda case: case["rule"])
def test_flowers_own_functions_make_the_same(case: dict[str, object]) -> None:
    made = applied(str(case["rule"]), np.array(FLOWER["updates"]), int(str(case["tolerated"])))
    np.testing.assert_allclose(made, np.array(case["made"]), rtol=1e-12)


# ---------------------------------------------------------------- statements


@pytest.mark.parametrize("rule", RULES)
def test_the_least_number_is_the_least_that_withstands(rule: str) -> None:
    assert set(PROMISES) == set(RULES)
    for f in range(1, 30):
        assert withstands(rule, least(rule, f)) == f
        assert withstands(rule, least(rule, f) - 1) == f - 1
    assert withstands(rule, 0) == withstands("mean", 100) == 0


@pytest.mark.parametrize(("rule", "n", "limit"), [("krum", 8, "n >= 2 f + 3 = 9"), ("median", 6, "n >= 2 f + 1 = 7")])
def test_too_few_are_refused_with_f_and_n_and_the_rule(rule: str, n: int, limit: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_robust(rule, 3, n, "Ask more.")
    error = refused.value
    assert (error.code, error.value, error.limit) == ("robust.too_few", f"n = {n}, f = 3, rule {rule}", limit)
    assert error.sentence().endswith(f"Ask more. Then {PROMISES[rule]}.")
    check_robust(rule, 3, n + 1, "")
