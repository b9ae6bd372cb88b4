"""Surveys over several partners say what numpy says of the pooled rows; in secret, but for the quantisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.surveys import surveyed, surveyed_privately
from aimass.client.worker_protocol import survey_in
from aimass.privacy.secagg.lanes import decode, encode
from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.contribution import Contribution
from aimass.proto.errors import BadInput
from aimass.proto.plan import Cohort, Plan, SecureSettings, Stage
from aimass.proto.statistics import CategoryCounts, Counts, Histogram, Moments, NumberCounts, Quantiles
from aimass.proto.step import Step
from aimass.server.aggregation.sums import SpooledSums
from aimass.server.drivers.base import Context, Done, StepResult, Sums
from aimass.server.drivers.surveys import Surveyor, SurveyState
from tests.support.noise import seeded
from tests.support.secagg_lanes import keys
from tests.support.surveys import NUMBERS, SCHEMA, asked, batch, plan_of, pooled, private

Added = Callable[[Step, Sequence[Contribution]], Sums]
BATCHES = [batch(rows, seed) for seed, rows in enumerate((40, 300, 170))]
ALL = pooled(BATCHES)


def columns() -> list[np.ndarray]:
    """The measured values of each number, in float64."""
    return [column[~np.isnan(column)].astype(np.float64) for column in ALL.numbers.T]


def in_secret(plan: Plan) -> tuple[Plan, Added]:
    """The plan with secure sums, and how they are made, but for the masks."""
    secure = SecureSettings(min_cohort=3)
    secured = msgspec.structs.replace(plan, secure=secure, cohort=Cohort(quorum=3))

    def added(step: Step, made: Sequence[Contribution]) -> Sums:
        survey = survey_in(plan, step)
        assert survey is not None
        lanes = lanes_of(secured, step, {step.purpose: survey.shapes})
        first, *others = (encode(lanes, one, keys(index)) for index, one in enumerate(made))
        return decode(lanes, sum(others, first), len(made))

    return secured, added


def found(plan: Plan, folder: Path, secure: bool) -> list[object]:
    if secure:
        secured, added = in_secret(plan)
        told = asked(secured, BATCHES, folder, surveyed, added)
    else:
        told = asked(plan, BATCHES, folder, surveyed)
    assert all((one.partners, one.noise, one.reason) == (3, 0.0, "") for one in told)
    return [one.found for one in told]


SECURE = pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])


@SECURE
def test_a_histogram_counts_the_pooled_rows(tmp_path: Path, secure: bool) -> None:
    (told,) = found(plan_of("histogram", bins=13), tmp_path, secure)
    assert isinstance(told, Histogram)
    for column, number, values in zip(told.numbers, NUMBERS, columns(), strict=True):
        oracle, _ = np.histogram(values, bins=13, range=(number.minimum, number.maximum))
        np.testing.assert_allclose(column.counts, oracle, atol=1e-5 if secure else 0)
        assert column.missing == pytest.approx(np.isnan(ALL.numbers).sum(axis=0)[NUMBERS.index(number)], abs=1e-5)
    for held, category, codes in zip(told.categories, SCHEMA.categories, ALL.categories.T, strict=True):
        assert held.values == category.values
        by_code = [(codes == code).sum() for code in range(len(category.values))]
        np.testing.assert_allclose(held.counts, by_code, atol=1e-5 if secure else 0)
        assert held.missing == pytest.approx((codes < 0).sum(), abs=1e-5)
    assert told.label is not None
    np.testing.assert_allclose(told.label.counts, np.bincount(ALL.labels), atol=1e-5)


def test_a_value_on_an_edge_is_in_the_bin_that_begins_there_and_the_largest_in_the_last(tmp_path: Path) -> None:
    rows = batch(21, 0)
    rows.numbers[:, 0] = np.linspace(0, 120, 21)
    told = asked(plan_of("histogram", bins=20), [rows], tmp_path, surveyed)[0].found
    assert isinstance(told, Histogram)
    oracle, _ = np.histogram(rows.numbers[:, 0].astype(np.float64), bins=20, range=(0, 120))
    assert told.numbers[0].counts == tuple(oracle) == (*[1.0] * 19, 2.0)


@SECURE
def test_counts_say_how_many_values_there_are(tmp_path: Path, secure: bool) -> None:
    (told,) = found(plan_of("counts"), tmp_path, secure)
    assert isinstance(told, Counts)
    missing = [*np.isnan(ALL.numbers).sum(axis=0), *(ALL.categories < 0).sum(axis=0)]
    assert [column.column for column in told.columns] == ["age", "weight", "sex", "stage"]
    np.testing.assert_allclose([column.missing for column in told.columns], missing, atol=1e-5)
    np.testing.assert_allclose([c.present + c.missing for c in told.columns], len(ALL.labels), atol=1e-5)


@SECURE
def test_moments_are_those_of_the_pooled_rows(tmp_path: Path, secure: bool) -> None:
    (told,) = found(plan_of("moments"), tmp_path, secure)
    assert isinstance(told, Moments)
    for moment, values in zip(told.numbers, columns(), strict=True):
        z = (values - values.mean()) / values.std()
        oracle = (len(values), values.mean(), values.std(), (z**3).mean(), (z**4).mean() - 3)
        said = (moment.count, moment.mean, moment.deviation, moment.skewness, moment.kurtosis)
        made = np.array(said, np.float64)
        np.testing.assert_allclose(made, oracle, rtol=1e-4 if secure else 1e-9, atol=1e-5 if secure else 1e-12)


@SECURE
@pytest.mark.parametrize("refine", [False, True])
def test_a_quantile_is_within_a_bin_of_the_pooled_rows_and_refined_within_a_part_of_it(
    tmp_path: Path, secure: bool, refine: bool
) -> None:
    shares = (0.01, 0.25, 0.26, 0.5, 0.99)
    plan = plan_of("quantiles", bins=11, quantiles=", ".join(map(str, shares)), refine=refine)
    steps = found(plan, tmp_path, secure)
    assert len(steps) == 1 + refine
    for told, parts in zip(steps, (11, 121), strict=False):
        assert isinstance(told, Quantiles)
        for held, number, values in zip(told.numbers, NUMBERS, columns(), strict=True):
            assert held.error == pytest.approx((number.maximum - number.minimum) / parts)
            oracle = np.quantile(values, shares, method="inverted_cdf")
            np.testing.assert_array_less(np.abs(np.array(held.values) - oracle), held.error * 1.000001)


def test_quantiles_of_a_column_that_nobody_measured_are_none(tmp_path: Path) -> None:
    empty = batch(20, 1)
    empty.numbers[:, 1] = np.nan
    told = asked(plan_of("quantiles", refine=True), [empty], tmp_path, surveyed)[-1].found
    assert isinstance(told, Quantiles)
    assert None not in told.numbers[0].values
    assert set(told.numbers[1].values) == {None}
    moments = asked(plan_of("moments"), [empty], tmp_path, surveyed)[-1].found
    assert isinstance(moments, Moments)
    assert moments.numbers[1].mean is None


@pytest.mark.parametrize("name", ["counts", "histogram"])
def test_what_is_noised_is_off_by_the_noise_that_it_says(tmp_path: Path, name: str) -> None:
    plan, stream = private(plan_of(name), 2.0), seeded("survey", name)
    setting = plan.privacy.analyses if plan.privacy else None
    assert setting is not None
    (exact,) = asked(plan_of(name), BATCHES, tmp_path, surveyed)
    off, noise = [], 0.0
    for _ in range(60):
        (told,) = asked(plan, BATCHES, tmp_path, lambda s, rows, at: surveyed_privately(s, rows, setting, stream, at))
        off.append(_numbers(told.found) - _numbers(exact.found))
        noise = told.noise
    tables = 5  # two numbers, two categories, the label
    assert noise == pytest.approx(2.0 * math.sqrt(tables) * math.sqrt(3))
    drawn = np.stack(off) / noise
    assert abs((drawn**2).sum() - drawn.size) < 5 * math.sqrt(2 * drawn.size)


def _numbers(told: object) -> np.ndarray:
    assert isinstance(told, Counts | Histogram)
    assert told.label is not None
    if isinstance(told, Counts):
        return np.array([n for c in told.columns for n in (c.present, c.missing)] + list(told.label.counts))
    columns: tuple[NumberCounts | CategoryCounts, ...] = (*told.numbers, *told.categories)
    return np.concatenate([[*column.counts, column.missing] for column in columns] + [told.label.counts])


def test_noised_quantiles_lie_near_the_exact_ones(tmp_path: Path) -> None:
    plan, stream = private(plan_of("quantiles", bins=10, refine=True), 0.5), seeded("quantiles")
    setting = plan.privacy.analyses if plan.privacy else None
    assert setting is not None
    told = asked(plan, BATCHES, tmp_path, lambda s, rows, at: surveyed_privately(s, rows, setting, stream, at))
    last = told[-1].found
    assert isinstance(last, Quantiles)
    for held, number, values in zip(last.numbers, NUMBERS, columns(), strict=True):
        oracle = np.quantile(values, held.shares, method="inverted_cdf")
        assert (np.abs(np.array(held.values) - oracle) < (number.maximum - number.minimum) / 10).all()


def test_without_its_quorum_a_survey_ends_with_the_partners_reasons() -> None:
    plan = plan_of("histogram", required=False)
    driver, context = Surveyor("histogram"), Context(plan, plan.stages[0], ("north", "south"), 0)
    (step,) = driver.next(SurveyState(model=plan.model), context)  # type: ignore[misc]
    assert not step.required
    failures = {"north": "release.analysis: not here", "south": "step.too_few: 1 of 2"}
    result = StepResult(step, (), {}, SpooledSums([]), failures=failures)
    state = driver.receive(SurveyState(model=plan.model), result, None, context)  # type: ignore[arg-type]
    told = driver.statistics(state)
    assert told is not None
    assert (told.found, told.partners) == (None, 0)
    assert "north: release.analysis: not here" in told.reason
    assert "south" not in told.reason
    done = driver.next(state, context)
    assert isinstance(done, Done)
    assert "release.analysis" in done.reason


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("counts", {"bins": 4}),
        ("histogram", {"bins": 1}),
        ("histogram", {"quantiles": "0.5"}),
        ("quantiles", {"quantiles": "0.5, 1.5"}),
        ("quantiles", {"quantiles": "half"}),
        ("quantiles", {"refine": True, "bins": 1000, "quantiles": ",".join(f"0.{n:03}" for n in range(1, 100))}),
        ("moments", {"rounds": 2}),
    ],
)
def test_options_that_a_survey_does_not_have_or_that_are_out_of_range_are_refused(
    name: str, options: dict[str, bool | int | float | str]
) -> None:
    plan = plan_of(name, **options)
    with pytest.raises(BadInput):
        Surveyor(name).check(plan, plan.stages[0])


def test_a_plan_without_a_schema_or_with_two_sets_of_options_is_refused() -> None:
    plan = plan_of("histogram")
    for bad in (
        msgspec.structs.replace(plan, schema=None),
        msgspec.structs.replace(plan, stages=(*plan.stages, Stage(driver="histogram", options={"bins": 3}))),
    ):
        with pytest.raises(BadInput) as refused:
            Surveyor("histogram").check(bad, bad.stages[0])
        assert refused.value.code in ("plan.schema", "plan.options")
