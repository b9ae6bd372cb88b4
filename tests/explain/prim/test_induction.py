"""Boxes: a planted one is found, none is made of noise, and rows that judge never choose."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from aimass.explain.models import asked, model_of_function
from aimass.explain.prim import PrimOptions, explain
from aimass.explain.prim.box import Condition, contains
from aimass.explain.prim.induction import density, induce
from aimass.explain.prim.regions import Regions
from aimass.explain.rows import Feature, Rows
from aimass.explain.words import number
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, DeadlinePassed, NotFound
from tests.explain.federated.hospitals import heart
from tests.explain.prim.wards import classifier, uniform, wards

Floats = npt.NDArray[np.float64]
LABEL = PrimOptions(target="label")


def boxes(rows: Rows, options: PrimOptions = LABEL, work: Work | None = None) -> Regions:
    """Of a model that says nothing, so that labels alone count."""
    model = classifier(len(rows.features), lambda values: np.full(len(values), 0.5))
    model = dataclasses.replace(model, features=rows.features)
    return induce(model, rows, asked(model, Work())(rows.values), options, work or Work())


def planted(values: Floats) -> Floats:
    inside = (values[:, 0] > 0.3) & (values[:, 0] < 0.7) & (values[:, 1] > 0.5)
    return np.where(inside, 0.9, 0.2)


def overlap(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    return float((found & true).sum() / (found | true).sum())


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_box_is_found_and_its_held_out_density_is_what_was_planted(seed: int) -> None:
    found = boxes(uniform(2000, 5, seed, planted), PrimOptions(target="label", boxes=1), Work(seed))
    (box,) = found.regions
    fresh = np.random.default_rng(99).random((20_000, 5))
    kept = contains(box.conditions, Rows.of(fresh))
    assert {one.feature.name for one in box.conditions} == {"x1", "x2"}
    assert overlap(kept, planted(fresh) > 0.5) > 0.75
    assert box.judged.low is not None
    assert box.judged.high is not None
    truth = planted(fresh)[kept].mean()
    assert box.judged.low < truth < box.judged.high
    assert found.warnings()[-1].startswith("A box is where the target is high, not why")
    assert all(check.passed for check in found.checks)


def test_a_planted_category_and_planted_missing_cells_are_found() -> None:
    rng = np.random.default_rng(1)
    place = Feature(name="ward", kind="category", values=("a", "b", "c", "d"))
    values = np.stack([rng.integers(0, 4, 3000), rng.random(3000), rng.random(3000)], axis=1).astype(np.float64)
    values[rng.random(3000) < 0.3, 1] = np.nan
    high = np.isin(values[:, 0], (1, 3)) & np.isnan(values[:, 1])
    labels = (rng.random(3000) < np.where(high, 0.8, 0.1)).astype(np.int64)
    rows = Rows((place, Feature(name="x"), Feature(name="y")), values, labels, ("no", "yes"))
    found = boxes(rows)
    assert found.regions[0].sentence == "(ward is b or d) and x is missing"
    assert len(found.regions) == 1
    assert "(ward is b or d) and x is missing: rate of yes" in found.describe()[1]


def test_boxes_of_noise_are_near_the_base_rate_on_rows_that_did_not_choose_them() -> None:
    found = [boxes(uniform(200, 4, seed, lambda values: np.full(len(values), 0.4)), PrimOptions(target="label", boxes=1, peel="0.1", folds=3), Work(seed)) for seed in range(40)]  # fmt: skip
    judged = [one.regions[0] for one in found if one.regions]
    assert len(judged) >= 8  # else nothing is shown
    held = np.array([one.judged.mean for one in judged], np.float64)
    searched = np.array([one.searched.mean for one in judged], np.float64)
    assert abs(held.mean() - 0.4) < 3 * math.sqrt(0.24 / sum(one.judged.rows for one in judged)) + 0.02
    assert searched.mean() > held.mean() + 0.1
    covered = np.mean([one.judged.low <= 0.4 <= one.judged.high for one in judged])  # type: ignore[operator]
    assert covered >= 0.85
    assert sum(not one.checks[0].passed for one in found if one.regions) >= len(judged) * 0.8


def test_rows_that_judge_do_not_choose() -> None:
    rows = uniform(600, 3, 5, planted)
    order = Work(7).rng("prim", "judging").permutation(600)
    judges = order[: round(600 * LABEL.judging)]
    assert rows.labels is not None
    labels = rows.labels.copy()
    labels[judges] = 1 - labels[judges]
    first, second = (boxes(one, work=Work(7)) for one in (rows, dataclasses.replace(rows, labels=labels)))
    assert [one.conditions for one in first.regions] == [one.conditions for one in second.regions]
    assert first.regions[0].searched == second.regions[0].searched
    assert first.regions[0].judged.mean != second.regions[0].judged.mean


def test_of_what_is_noise_few_boxes_are_confirmed_and_each_sentence_has_its_verdict() -> None:
    options = PrimOptions(target="label", boxes=3, peel="0.1", folds=2, conditions=2)
    rng, told, wrong, partners = np.random.default_rng(0), 0, 0, 0
    for seed in range(120):
        rows = uniform(300, 4, seed, lambda values: np.full(len(values), 0.3))
        rows = dataclasses.replace(rows, beside={"partner": rng.integers(0, 8, 300).astype(str)})
        found = boxes(rows, options, Work(seed))
        told += bool(found.regions)
        wrong += any(one.confirmed for one in found.regions)
        partners += any("rows that judge (" in line for line in found.describe())
        for line, one, check in zip(found.describe()[1:], found.regions, found.checks, strict=False):
            assert ("not confirmed" in line) == (not one.confirmed) == (not check.passed)
            assert f"p = {number(one.p or 0, 2)}: " in line
    assert told >= 40  # else nothing is shown
    assert wrong <= 0.05 * told + 3 * math.sqrt(0.05 * 0.95 * told)
    assert partners <= 0.05 * told + 3 * math.sqrt(0.05 * 0.95 * told)


def test_a_box_of_a_number_is_tested_too_and_what_is_low_the_other_way() -> None:
    rng = np.random.default_rng(4)
    values = rng.random((600, 3))
    labels = np.where(values[:, 0] > 0.7, 5.0, 0.0) + rng.normal(size=600)
    model = model_of_function(lambda cells: cells[:, 0], ["x1", "x2", "x3"])
    ways: tuple[tuple[Literal["high", "low"], int], ...] = (("high", 1), ("low", -1))
    for direction, sign in ways:
        options = PrimOptions(target="label", boxes=1, direction=direction)
        (box,) = induce(model, Rows.of(values, labels=sign * labels), labels[:, None], options, Work()).regions
        assert box.p == pytest.approx(1 / 1000)
        assert box.more_low is not None
        assert box.more_high is not None
        assert 4 < min(sign * box.more_low, sign * box.more_high) < max(sign * box.more_low, sign * box.more_high) < 6
        against = dataclasses.replace(Rows.of(values), labels=-sign * labels)
        assert all(not one.confirmed for one in induce(model, against, labels[:, None], options, Work()).regions if one.conditions == box.conditions)  # fmt: skip


def test_a_skewed_target_is_named_where_boxes_are_judged_by_few_rows() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((300, 2))
    model = model_of_function(lambda cells: cells[:, 0], ["x1", "x2"])
    options = PrimOptions(target="label", boxes=1, folds=2, peel="0.1", support=0.1)
    told = []
    for error in (np.exp(1.2 * rng.normal(size=300)), rng.normal(size=300)):
        rows = Rows.of(values, labels=error + 3 * (values[:, 0] > 0.8))
        found = induce(model, rows, values[:, :1], options, Work())
        assert found.regions
        told.append(any("is skewed" in line for line in found.caveats))
    assert told == [True, False]


def linear_truth(conditions: tuple[Condition, ...], weights: Floats) -> float:
    """The mean of `weights @ x` in a box of independent standard normal x."""
    total = 0.0
    for one in conditions:
        low = -math.inf if one.low is None else one.low
        high = math.inf if one.high is None else one.high
        total += weights[int(one.feature.name[1:]) - 1] * float(stats.truncnorm.mean(low, high))
    return total


def test_the_interval_of_a_held_out_density_covers_the_truth_as_often_as_it_says() -> None:
    weights, covered = np.array([1.0, 0.5, 0.0]), []
    options = PrimOptions(target="label", boxes=1, peel="0.1", folds=2, conditions=2)
    for seed in range(250):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(200, 3))
        rows = Rows.of(values, labels=values @ weights + rng.normal(size=200))
        model = model_of_function(lambda cells: cells @ weights, [one.name for one in rows.features])
        found = induce(model, rows, (values @ weights)[:, None], options, Work(seed))
        for one in found.regions:
            if one.judged.low is None or one.judged.high is None:
                continue  # fewer than two rows have no interval
            covered.append(one.judged.low <= linear_truth(one.conditions, weights) <= one.judged.high)
    assert len(covered) > 200
    # Three standard errors of the 95 % around what a bench over 1,000 has to keep within 93 to 97 %.
    assert 0.91 <= np.mean(covered) <= 0.985


def test_where_the_model_is_wrong_is_found_by_its_error() -> None:
    rows = uniform(1500, 4, 2, lambda values: np.where(values[:, 2] > 0.5, 0.95, 0.05))
    broken = classifier(4, lambda values: np.where((values[:, 2] > 0.5) & (values[:, 0] < 0.8), 0.9, 0.1))
    found = explain(broken, rows, PrimOptions(target="error", boxes=1, grid=2)).boxes
    box = found.regions[0]
    assert {one.feature.name for one in box.conditions} == {"x1", "x3"}
    assert box.judged.mean is not None
    assert box.judged.mean > 0.8
    assert found.target == "error rate"


def test_what_is_low_is_found_as_what_is_high_of_its_opposite() -> None:
    rows = uniform(800, 3, 3, planted)
    assert rows.labels is not None
    opposite = dataclasses.replace(rows, labels=1 - rows.labels)
    low, high = boxes(rows, PrimOptions(target="label", direction="low")), boxes(opposite)
    assert [one.conditions for one in low.regions] == [one.conditions for one in high.regions]
    assert low.regions[0].searched.mean == pytest.approx(1 - (high.regions[0].searched.mean or 0))
    assert low.regions[0].path.mean == pytest.approx(1 - high.regions[0].path.mean)
    assert [check.passed for check in low.checks] == [check.passed for check in high.checks]


def test_each_box_is_of_what_the_former_ones_left() -> None:
    found = explain(heart(), wards(), PrimOptions(grid=2)).boxes
    assert len(found.regions) >= 2
    for former, later in zip(found.regions, found.regions[1:], strict=False):
        assert later.searched.of == former.searched.of - former.searched.rows
        assert later.judged.of == former.judged.of - former.judged.rows
    assert all(one.searched.rows >= 0.05 * 552 for one in found.regions)
    assert found.searched.of + found.judged.of == 920


def test_density_is_of_the_rows_inside_and_says_what_lies_outside() -> None:
    found = density(np.array([1.0, 0, 1, 1]), np.array([True, True, True, False]), binary=True)
    assert (found.rows, found.of, found.outside) == (3, 4, 1.0)
    assert found.coverage == pytest.approx(2 / 3)
    assert found.mean == pytest.approx(2 / 3)
    assert density(np.array([1.0, -1]), np.array([True, False]), binary=False).coverage is None
    empty = density(np.ones(2), np.zeros(2, bool), binary=True)
    assert (empty.rows, empty.mean, empty.low, empty.coverage) == (0, None, None, 0.0)
    mean = density(np.arange(6.0), np.ones(6, bool), binary=False)
    truth = stats.ttest_1samp(np.arange(6.0), 0).confidence_interval()
    assert [mean.low, mean.high] == pytest.approx([truth.low, truth.high], abs=1e-5)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.ones((100, 2)), "constant"),
        (np.full((100, 2), np.nan), "all missing"),
        (np.repeat(np.random.default_rng(0).random((100, 1)), 2, axis=1), "correlated"),
        (np.random.default_rng(0).random((100, 1)), "one feature"),
        (np.random.default_rng(0).random((1, 2)), "one row"),
        (np.random.default_rng(0).random((41, 2)), "few rows"),
    ],
)
def test_odd_rows_make_a_result_and_no_error(values: Floats, why: str) -> None:
    labels = (np.arange(len(values)) % 2).astype(np.int64)
    found = boxes(Rows.of(values, labels=labels, classes=("no", "yes")))
    assert Regions.from_json(found.to_json()) == found
    assert found.describe()[0].startswith("All rows: rate of yes")
    if why in ("constant", "all missing", "one row"):
        assert found.regions == ()
        assert "No box stands out" in found.describe()[1]
    if why == "one row":
        assert "1 rows are too few" in found.caveats[0]
    found.to_svg()


def test_one_class_alone_has_no_box() -> None:
    rows = dataclasses.replace(uniform(200, 2, 0, planted), labels=np.ones(200, np.int64))
    assert boxes(rows).regions == ()


def test_a_result_is_of_its_seed_and_comes_back_and_is_drawn() -> None:
    first = explain(heart(), wards(), PrimOptions(grid=2), Work(3)).boxes
    assert explain(heart(), wards(), PrimOptions(grid=2), Work(3, workers=2)).boxes == first
    assert Regions.from_json(first.to_json()) == first
    assert first.to_columns()["box"][0] == "all rows"
    drawn = first.picture()
    assert len(drawn.panels) == 1 + len(first.regions)
    np.testing.assert_array_equal(drawn.panels[1].layers[1].y, first.regions[0].path.judged_mean)  # type: ignore[union-attr]
    first.to_figure()


def test_what_cannot_be_asked_is_named() -> None:
    rows = wards()
    with pytest.raises(BadInput, match="no labels"):
        explain(heart(), dataclasses.replace(rows, labels=None), PrimOptions(target="error", grid=2))
    with pytest.raises(BadInput, match="another kind of model"):
        explain(heart(), rows, PrimOptions(target="error", loss="squared_error", grid=2))
    with pytest.raises(BadInput, match="share of the box"):
        explain(heart(), rows, PrimOptions(peel="0.7", grid=2))
    with pytest.raises(NotFound, match="no such feature"):
        explain(heart(), rows, PrimOptions(features=("weight",), grid=2))
    with pytest.raises(DeadlinePassed):
        explain(heart(), rows, PrimOptions(grid=2), Work(until=0.0, now=lambda: 1.0))


def test_rows_with_labels_have_boxes_of_errors_too_and_it_is_said_whose_rows_they_are() -> None:
    rows = uniform(1500, 3, 2, lambda values: np.where(values[:, 2] > 0.5, 0.95, 0.05))
    rows = dataclasses.replace(rows, beside={"partner": np.where(rows.values[:, 0] > 0.8, "north", "south")})
    broken = classifier(3, lambda values: np.where((values[:, 2] > 0.5) & (values[:, 0] < 0.8), 0.9, 0.1))
    found = explain(broken, rows, PrimOptions(boxes=1, grid=2))
    assert found.errors is not None
    box = found.errors.regions[0]
    north = next(holder for holder in box.holders if holder.name == "north")
    assert north.rows > 0.95 * north.box
    assert north.whole == pytest.approx(0.2 * north.of, abs=0.05 * north.of)
    assert (north.box, north.of) == (box.judged.rows, box.judged.of)
    assert north.p < 1e-6
    assert f"{north.rows} of its {north.box} rows that judge" in found.errors.describe()[1]
    assert "are of north, of all that judge 2" in found.errors.describe()[1]
    assert list(found.views()) == ["bands", "map", "boxes", "errors"]
    assert explain(broken, rows, PrimOptions(target="error", boxes=1, grid=2)).errors is None
    assert explain(broken, dataclasses.replace(rows, labels=None), PrimOptions(boxes=1, grid=2)).errors is None
