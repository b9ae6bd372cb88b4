"""Bands: every row lies in one, their figures are those of the rows, and a slider asks nobody again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve

from aimass.explain.means import mean_interval, student95
from aimass.explain.models import model_of_function
from aimass.explain.prim import PrimOptions, explain
from aimass.explain.prim.band_view import Bands
from aimass.explain.prim.bands import band_names, band_rows, histogram, off, score_edges
from aimass.explain.prim.groups import groups_of
from aimass.explain.prim.threshold_map import bands
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.intervals import wilson
from tests.explain.federated.hospitals import HOSPITALS, heart
from tests.explain.prim.wards import classifier, uniform, wards


def identity(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return values[:, 0]


def test_each_band_holds_the_rows_between_its_thresholds() -> None:
    scores, truth = np.array([0.0, 0.19, 0.2, 0.5, 0.5, 0.7999, 1.0]), np.array([0, 1, 0, 1, 0, 1, 1.0])
    cuts = np.array([0.2, 0.5])
    low, middle, high = band_rows(histogram(scores, score_edges(cuts), truth), cuts, binary=True)[0]
    assert (low.count, middle.count, high.count) == (2, 1, 4)
    assert (low.observed, middle.observed, high.observed) == (0.5, 0.0, 0.75)
    assert high.predicted == pytest.approx(scores[3:].mean())
    assert (high.low, high.high) == wilson(0.75, 4)
    assert [low.low, low.high] == pytest.approx([0.0945, 0.9055], abs=1e-4)


def test_the_calibration_is_that_of_scikit_learn() -> None:
    rows = wards()
    cuts = np.arange(1, 5) / 5
    found = explain(heart(), rows, PrimOptions(thresholds="0.2, 0.4, 0.6, 0.8", grid=2)).bands
    said = heart().predict(rows.values)[:, 1]
    true, predicted = calibration_curve(rows.need_labels(), said, n_bins=5)
    np.testing.assert_allclose([band.observed for band in found.total()], true, atol=1e-12)
    np.testing.assert_allclose([band.predicted for band in found.total()], predicted, atol=1e-12)
    np.testing.assert_array_equal(found.thresholds, cuts)


@given(st.lists(st.integers(1, 999), min_size=1, max_size=6, unique=True), st.integers(0, 5))
def test_a_slider_gives_what_other_thresholds_would_have_given(cuts: list[int], seed: int) -> None:
    rows = uniform(200, 1, seed, lambda values: values[:, 0])
    model = classifier(1, identity)
    text = ", ".join(str(cut / 1000) for cut in cuts)
    said = model.predict(rows.values)
    moved = bands(model, rows, said, PrimOptions(), Work()).at([cut / 1000 for cut in cuts])
    assert moved.total() == bands(model, rows, said, PrimOptions(thresholds=text), Work()).total()
    assert sum(band.count for band in moved.total()) == 200


def test_groups_add_to_the_whole_and_are_the_groups_alone() -> None:
    rows = wards()
    whole = explain(heart(), rows, PrimOptions(grid=2)).bands
    assert set(whole.groups) == set(HOSPITALS)
    assert whole.beside == "partner"
    for name, by in zip(whole.groups, whole.rows(), strict=True):
        alone = explain(heart(), rows.take(rows.beside["partner"] == name), PrimOptions(grid=2)).bands
        assert [band.count for band in by] == [band.count for band in alone.total()]
        assert [band.observed for band in by] == pytest.approx([band.observed for band in alone.total()], nan_ok=True)
    first, second = (rows.take(slice(0, 100)), rows.take(slice(100, None)))
    parts = [histogram(heart().predict(part.values)[:, 1], score_edges(whole.thresholds), part.need_labels().astype(float)) for part in (first, second)]  # fmt: skip
    np.testing.assert_array_equal((parts[0] + parts[1]).counts.sum(axis=0), whole.counts.sum(axis=0))
    np.testing.assert_array_equal((parts[0] + parts[1]).outcomes.sum(axis=0), whole.outcomes.sum(axis=0))


def test_a_model_that_means_what_it_says_is_told_so_and_one_that_does_not_is_named() -> None:
    rows = uniform(4000, 1, 3, lambda values: values[:, 0])
    assert "In no band" in explain(classifier(1, identity), rows, PrimOptions(grid=2)).bands.describe()[0]
    bold = classifier(1, lambda values: np.where(values[:, 0] > 0.5, 0.95, 0.05))
    said = explain(bold, rows, PrimOptions(grid=2)).bands.describe()
    assert "does not mean what it says" in said[0]
    assert "below 0.2: 2," in said[1]


def test_a_calibrated_model_is_seldom_said_to_be_amiss_and_a_band_has_the_binomial_test() -> None:
    model, amiss, unlike = classifier(1, identity), 0, 0
    rng = np.random.default_rng(5)
    for seed in range(300):
        rows = uniform(300, 1, seed, identity)
        rows = dataclasses.replace(rows, beside={"partner": rng.integers(0, 20, 300).astype(str)})
        found = bands(model, rows, model.predict(rows.values), PrimOptions(), Work())
        amiss += "does not mean" in str(found.describe())
        unlike += "(p = " in str(found.describe())
    assert amiss <= 0.05 * 300 + 3 * np.sqrt(0.05 * 0.95 * 300)
    assert unlike <= 0.05 * 300 + 3 * np.sqrt(0.05 * 0.95 * 300)
    for band in found.total():
        hits = round(band.observed * band.count)
        tails = stats.binom.cdf(hits, band.count, band.predicted), stats.binom.sf(hits - 1, band.count, band.predicted)
        assert band.p == pytest.approx(min(1.0, 2 * min(tails)))


def test_one_row_of_each_day_is_nothing_to_tell_and_a_partner_that_differs_is_told_with_its_rows() -> None:
    rows = uniform(200, 1, 1, identity)
    model = classifier(1, identity)
    days = dataclasses.replace(rows, beside={"partner": np.array([f"day {place % 40}" for place in range(200)])})
    said = bands(model, days, model.predict(rows.values), PrimOptions(), Work()).describe()
    assert any("holds everybody's rows alike" in line for line in said)
    assert not any("(p = " in line for line in said)
    high = np.where(rows.values[:, 0] > 0.8, "north", np.array(["east", "west"])[np.arange(200) % 2])
    parted = dataclasses.replace(rows, beside={"partner": high})
    said = bands(model, parted, model.predict(rows.values), PrimOptions(), Work()).describe()
    count = int((high == "north").sum())
    assert any(
        line.startswith(f"Of north {count} of {count} rows (100 %) lie in the band 0.8 and more") for line in said
    )


def test_a_number_has_bands_of_its_own_range_and_an_interval_of_students() -> None:
    values = np.random.default_rng(0).normal(size=(300, 2))
    rows = Rows.of(values, labels=values[:, 0] * 2 + 1)
    found = explain(model_of_function(lambda cells: cells[:, 0] * 2, ["x1", "x2"]), rows, PrimOptions(grid=2)).bands
    assert [band.count for band in found.total()] == [100, 100, 100]
    top = found.total()[-1]
    truth = rows.need_labels()[values[:, 0] * 2 >= found.thresholds[-1]]
    expected = stats.ttest_1samp(truth, 0).confidence_interval()
    assert (top.low, top.high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert top.p == pytest.approx(stats.ttest_1samp(truth, top.predicted).pvalue, rel=1e-3)
    assert off(found.total())[-1]


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 11, 15, 30, 200, 10_000])
def test_quantiles_are_those_of_scipy(freedom: int) -> None:
    assert student95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-5)


def test_one_value_has_no_interval() -> None:
    assert np.isnan(mean_interval(1, 2.0, 4.0)).all()
    assert mean_interval(3, 3.0, 3.0) == (1.0, 1.0)


def test_rows_without_labels_have_bands_and_say_that_nothing_is_known_of_the_truth() -> None:
    rows = dataclasses.replace(wards(), labels=None)
    found = explain(heart(), rows, PrimOptions(grid=2)).bands
    assert all(np.isnan(band.observed) for band in found.total())
    assert any("no labels" in line for line in found.caveats)
    assert not any("true" in line for line in found.describe())
    found.to_svg()


def test_times_are_cut_into_periods_of_as_many_rows() -> None:
    days = np.datetime64("2020-01-01") + np.arange(160)
    rows = Rows.of(np.zeros((160, 1)), beside={"day": days, "visit": np.arange(160) // 80})
    names, places = groups_of(rows, "day")
    assert np.bincount(places).tolist() == [20] * 8
    assert names[0] == "2020-01-01 to 2020-01-21"
    assert groups_of(rows, "visit")[0] == ("0", "1")
    with pytest.raises(NotFound, match="no such column stands beside"):
        groups_of(rows, "month")


def test_a_thousand_partners_are_the_largest_and_the_others() -> None:
    partners = np.array([f"p{place:04d}" for place in range(1000)] + ["p0999"] * 5)
    names, places = groups_of(Rows.of(np.zeros((1005, 1)), beside={"partner": partners}), "")
    assert len(names) == 41
    assert names[-2:] == ("p0999", "others")
    assert np.bincount(places)[-1] == 960


@pytest.mark.parametrize("text", ["high", "0.2, nan", "0, 0.5", "1.5", ",".join(str(n / 50) for n in range(1, 20))])
def test_thresholds_that_are_none_are_named(text: str) -> None:
    with pytest.raises(BadInput, match="threshold"):
        explain(heart(), wards(), PrimOptions(thresholds=text, grid=2))


def test_nothing_is_explained_of_no_rows_and_little_of_one() -> None:
    with pytest.raises(BadInput, match="nothing to explain"):
        explain(heart(), wards().take(slice(0, 0)))
    one = explain(heart(), wards().take(slice(0, 1)), PrimOptions(grid=2)).bands
    assert sum(band.count for band in one.total()) == 1


def test_of_many_classes_the_one_that_is_predicted_most_is_chosen_and_said() -> None:
    logits = np.random.default_rng(1).normal(size=10_000)
    logits[4321] = 9
    chances = np.exp(logits) / np.exp(logits).sum()
    names = [f"c{place}" for place in range(10_000)]
    model = model_of_function(lambda values: np.tile(chances, (len(values), 1)), ["a"], names)
    found = explain(model, Rows.of([[0.0], [1.0]], ["a"]), PrimOptions(grid=2), Work(memory_bytes=1 << 20)).bands
    assert found.output == "c4321"
    assert "predicted most often" in found.caveats[0]
    with pytest.raises(NotFound, match="no such output"):
        explain(model, Rows.of([[0.0]], ["a"]), PrimOptions(output="dog", grid=2))


def test_bands_come_back_from_json_and_say_the_same_in_csv_and_picture() -> None:
    found = explain(heart(), wards(), PrimOptions(grid=2)).bands
    assert Bands.from_json(found.to_json()) == found
    table = found.to_columns()
    assert sum(int(str(count)) for count in table["rows"]) == 920
    drawn = [panel.layers[0] for panel in found.picture().panels]
    assert sum(drawn[0].end) == 920  # type: ignore[union-attr]


def test_names_of_bands_are_in_order() -> None:
    assert band_names(("1", "2", "3")) == ("below 1", "1 to 2", "2 to 3", "3 and more")
