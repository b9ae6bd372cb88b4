"""Correlated noise: golden errors, sensitivity by trying every pattern, and the released sums against whole matrices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.dp import matrix as mechanism
from aimass.privacy.dp.gaussian import noised
from aimass.privacy.dp.matrix import MatrixPlan, MatrixState, check_separation, matrix, release, rmse_factor
from aimass.proto.errors import BadInput, Refused
from tests.support.dp_looks import coloured, whitened
from tests.support.noise import seeded
from tests.support.statistics import normal_p

Floats = npt.NDArray[np.float64]
PLAN = MatrixPlan(rounds=24, bands=5, multiplier=1.7, clip=0.6, count=4096)


@pytest.mark.parametrize(
    ("rounds", "bands", "factor", "independent"),
    [(100, 25, 4.965, 14.213), (1000, 100, 12.083, 70.746), (100, 100, 2.265, 7.106)],
)
def test_the_golden_errors(rounds: int, bands: int, factor: float, independent: float) -> None:
    participations = -(-rounds // bands)
    assert rmse_factor(rounds, bands) == pytest.approx(factor, abs=5.01e-4)
    assert math.sqrt(participations * (rounds + 1) / 2) == pytest.approx(independent, abs=5.01e-4)
    assert rmse_factor(rounds, 1) == pytest.approx(math.sqrt(rounds * (rounds + 1) / 2), rel=1e-12)


def test_the_matrix_is_the_root_of_the_prefix_sums_cut_and_normalised() -> None:
    whole = matrix(40, 40)
    full = np.array([[mechanism._coefficients(40)[i - j] if i >= j else 0.0 for j in range(40)] for i in range(40)])
    assert full @ full == pytest.approx(np.tril(np.ones((40, 40))), abs=1e-12)
    assert whole == pytest.approx(full / np.linalg.norm(full, axis=0), abs=1e-12)


@given(st.integers(1, 40), st.data())
def test_columns_have_norm_one_and_few_bands(rounds: int, data: st.DataObject) -> None:
    bands = data.draw(st.integers(1, rounds))
    whole = matrix(rounds, bands)
    assert np.linalg.norm(whole, axis=0) == pytest.approx(np.ones(rounds), rel=1e-12)
    rows, columns = np.nonzero(whole)
    assert ((rows >= columns) & (rows - columns < bands)).all()
    assert len(rows) == sum(min(bands, rounds - column) for column in range(rounds))


def largest(whole: Floats, apart: int) -> float:
    """The largest norm that a partner of norm one can give to C x, over all patterns and signs with rounds so apart."""
    rounds, most = len(whole), 0.0
    for size in range(1, rounds + 1):
        for taken in itertools.combinations(range(rounds), size):
            if all(later - earlier >= apart for earlier, later in itertools.pairwise(taken)):
                most = max(
                    most,
                    *(
                        float(np.linalg.norm(whole[:, taken] @ signs))
                        for signs in itertools.product((1, -1), repeat=size)
                    ),
                )
    return most


@pytest.mark.parametrize(("rounds", "bands"), [(6, 2), (7, 3), (8, 8), (9, 4), (5, 1)])
def test_the_sensitivity_is_that_of_the_worst_pattern(rounds: int, bands: int) -> None:
    plan = MatrixPlan(rounds, bands, 1.0, 2.0, 1)
    assert 2.0 * largest(matrix(rounds, bands), bands) == pytest.approx(plan.sensitivity, rel=1e-12)


def test_rounds_closer_than_the_bands_cost_more_than_is_accounted() -> None:
    """Power of the test above, and why E_MIN_SEP is a refusal."""
    plan = MatrixPlan(8, 4, 1.0, 1.0, 1)
    assert largest(matrix(8, 4), 3) > plan.sensitivity * 1.05


# ------------------------------------------------------------------- releases


def totals(plan: MatrixPlan) -> Floats:
    return np.asarray(seeded("totals").take(plan.rounds * plan.count) / 2.0**62 - 2.0).reshape(plan.rounds, plan.count)


def run(plan: MatrixPlan, sums: Floats) -> Floats:
    state, stream, found = MatrixState(), seeded("run"), []
    for total in sums:
        state, released = release(plan, state, total, stream)
        found.append(released)
    return np.array(found)


def plain(plan: MatrixPlan, sums: Floats) -> Floats:
    """C^-1 (C x + Z), with the same Z."""
    stream, whole = seeded("run"), matrix(plan.rounds, plan.bands)
    noise = np.array([noised(plan.noise, np.zeros(plan.count), stream) for _ in range(plan.rounds)])
    return np.linalg.solve(whole, whole @ sums + noise)


@pytest.mark.parametrize(("rounds", "bands"), [(1, 1), (5, 1), (7, 7), (12, 5)])
def test_releases_one_by_one_are_those_of_whole_matrices(rounds: int, bands: int) -> None:
    plan = MatrixPlan(rounds, bands, 1.7, 0.6, 50)
    sums = totals(plan)
    assert run(plan, sums) == pytest.approx(plain(plan, sums), abs=1e-5)
    assert run(plan, sums) != pytest.approx(sums, abs=0.1)


def looks_right(plan: MatrixPlan, sums: Floats, released: Floats) -> bool:
    return not coloured(plan, sums, released) and normal_p(whitened(plan, sums, released)[:, :512]) > 1e-4


def test_noise_is_white_after_the_matrix_and_its_error_is_the_stated_one() -> None:
    sums = totals(PLAN)
    released = run(PLAN, sums)
    assert looks_right(PLAN, sums, released)
    error = np.cumsum(released - sums, axis=0)
    found = float(np.sqrt(np.mean(error**2))) / (PLAN.multiplier * PLAN.clip)
    assert found == pytest.approx(rmse_factor(24, 5), rel=0.03)
    independent = np.cumsum([noised(PLAN.noise, np.zeros(PLAN.count), seeded(i)) for i in range(24)], axis=0)
    assert float(np.sqrt(np.mean(independent**2))) / (PLAN.multiplier * PLAN.clip) > 1.5 * found


def half(sums: Floats) -> Floats:
    return sums + (run(PLAN, sums) - sums) / 2


def one_seed_for_all_rounds(sums: Floats) -> Floats:
    state, found = MatrixState(), []
    for total in sums:
        state, released = release(PLAN, state, total, seeded("again"))
        found.append(released)
    return np.array(found)


def wrong_sign(sums: Floats) -> Floats:
    """Earlier noise added where it should be taken away."""
    white = whitened(PLAN, sums, run(PLAN, sums)) * PLAN.noise.deviation
    whole = matrix(PLAN.rounds, PLAN.bands)
    turned = 2 * np.diag(np.diag(whole)) - whole
    return sums + np.asarray(np.linalg.solve(turned, white))


BROKEN: dict[str, Callable[[Floats], Floats]] = {
    "half the noise": half,
    "one seed for all rounds": one_seed_for_all_rounds,
    "the wrong sign": wrong_sign,
    "independent noise": lambda sums: sums + whitened(PLAN, sums, run(PLAN, sums)) * PLAN.noise.deviation,
    "no noise": lambda sums: sums,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_correlation_is_found(name: str) -> None:
    sums = totals(PLAN)
    assert not looks_right(PLAN, sums, BROKEN[name](sums))


def test_what_is_accounted_counts_the_rounding_of_every_row() -> None:
    plan = MatrixPlan(100, 25, 0.60023, 1.0, 1 << 20)
    assert plan.noise.deviation == pytest.approx(0.60023 * 2, rel=1e-12)
    rounding = 1.25 * math.sqrt(100 * 2**20) * 0.60023 / 2**29
    assert plan.accounted == pytest.approx(0.60023 / (1 + rounding), rel=1e-8)
    assert plan.accounted == pytest.approx(0.60023, rel=2e-5)


def test_a_state_is_not_changed_and_keeps_no_more_than_it_needs() -> None:
    plan = MatrixPlan(9, 4, 1.0, 1.0, 3)
    state, stream = MatrixState(), seeded("state")
    for round_ in range(9):
        assert len(state.sums) == len(state.released) == min(3, round_)
        before = [array.copy() for array in (*state.sums, *state.released)]
        total = np.full(3, float(round_))
        after, found = release(plan, state, total, stream)
        total += 99
        found += 99
        assert all((one == other).all() for one, other in zip(before, (*state.sums, *state.released), strict=True))
        assert after.sums[0].tolist() == [round_] * 3
        assert abs(after.released[0] - round_).max() < 50
        state = after
    with pytest.raises(BadInput, match="over"):
        release(plan, state, np.zeros(3), stream)


# ------------------------------------------------------------------- separation, and what is refused


@pytest.mark.parametrize(("last", "round_", "bands", "fine"), [
    (None, 0, 5, True), (None, 3, 5, True), (0, 5, 5, True), (0, 4, 5, False), (0, 1, 1, True), (7, 7, 1, False),
    (7, 6, 1, False), (7, 2, 5, False), (10, 1000, 5, True),
])  # fmt: skip
def test_rounds_of_a_partner_are_bands_apart(last: int | None, round_: int, bands: int, fine: bool) -> None:
    if fine:
        check_separation(last, round_, bands)
        return
    with pytest.raises(Refused) as caught:
        check_separation(last, round_, bands)
    assert caught.value.code == "dp.E_MIN_SEP"


@given(st.integers(1, 60), st.data())
def test_the_rule_allows_no_more_participations_than_are_accounted(rounds: int, data: st.DataObject) -> None:
    bands = data.draw(st.integers(1, rounds))
    last, count = None, 0
    for round_ in range(rounds):
        if not data.draw(st.booleans()):
            continue
        try:
            check_separation(last, round_, bands)
        except Refused:
            continue
        last, count = round_, count + 1
    assert count <= MatrixPlan(rounds, bands, 1.0, 1.0, 1).participations


@pytest.mark.parametrize(("rounds", "bands", "multiplier", "clip"), [
    (0, 1, 1.0, 1.0), (5, 0, 1.0, 1.0), (5, 6, 1.0, 1.0), (10_001, 1, 1.0, 1.0), (5, 2, 0.0, 1.0), (5, 2, math.nan, 1.0),
    (5, 2, 1.0, -1.0),
])  # fmt: skip
def test_impossible_plans_are_refused(rounds: int, bands: int, multiplier: float, clip: float) -> None:
    with pytest.raises(BadInput):
        MatrixPlan(rounds, bands, multiplier, clip, 4)


def test_other_sums_are_refused() -> None:
    for total in (np.zeros(4095), np.full(4096, math.nan)):
        with pytest.raises(BadInput):
            release(PLAN, MatrixState(), total, seeded("x"))
