"""Where a model of a table is wrong: what was planted is found and confirmed, what is chance is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.prim.options import PrimOptions
from aimass.explain.prim.target import target_of
from aimass.explain.rows import Feature, Rows
from aimass.explain.segviz import SegvizOptions, SegvizResult, explain
from aimass.explain.segviz.judged import judge
from aimass.explain.segviz.segments import bands_of, beside_of
from aimass.explain.significance import holm, shuffled_p
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound, Stopped
from aimass.proto.intervals import wilson
from tests.explain.segviz.tables import FEATURES, MODEL, chances, rows

QUICK = SegvizOptions(shuffles=499, alpha=0.8)


@pytest.fixture(scope="module")
def planted() -> SegvizResult:
    return explain(MODEL, rows(3000), QUICK)


def test_the_planted_slice_comes_first_and_is_confirmed(planted: SegvizResult) -> None:
    slices = planted.slices
    assert set(slices.says[0].split(" and ")) == {"oldpeak >= 2 mm", "thal = reversable"}
    assert slices.confirmed[0]
    assert slices.low[0] < 0.6 < slices.high[0]
    assert slices.more_low[0] < 0.5 < slices.more_high[0]
    assert slices.scores[0] == slices.scores.max()
    assert ": confirmed." in slices.describe()[0]
    assert "of these rows are of Basel" in slices.describe()[0]


def test_the_tree_parts_the_rows_and_its_worst_leaf_is_the_planted_slice(planted: SegvizResult) -> None:
    tree = planted.tree
    assert tree.rows.sum() == tree.judging_rows == 1500
    assert tree.found_rows.sum() == 1500
    assert (tree.rows * tree.mean).sum() == pytest.approx(tree.overall * 1500)
    assert {"oldpeak >= 2 mm", "thal = reversable"} <= set(tree.says[0].split(" and "))
    assert list(tree.found_mean) == sorted(tree.found_mean, reverse=True)


def test_the_holder_of_the_planted_rows_is_worse_than_the_other(planted: SegvizResult) -> None:
    found = planted.holders
    assert found is not None
    assert (found.by, found.names) == ("partner", ("Basel", "Bern"))
    assert found.p[0] <= 0.01
    assert found.p[1] > 0.5
    errors = judge(MODEL, rows(3000), Work(), output="", threshold=0.5, loss="").errors
    inside = rows(3000).beside["partner"][:, None] == np.array(["Basel", "Bern"])
    np.testing.assert_array_equal(found.p, holm(shuffled_p(inside, errors, 499, Work(), "segments partner")))
    assert found.describe()[1].startswith("Worse than the others, after Holm's correction: Basel")


def test_bands_count_every_row_by_how_it_is_right_or_wrong(planted: SegvizResult) -> None:
    data = rows(3000)
    said, bands = chances(data.values), planted.bands
    assert data.labels is not None
    ((true_no, false_yes), (false_no, true_yes)) = confusion_matrix(data.labels, said >= 0.5)
    assert bands.counts.sum(axis=0).tolist() == [true_yes, false_yes, false_no, true_no]
    assert bands.counts[[1, 2, 3]].sum() == 0
    wrong = int(bands.counts[4, 1])
    low, high = wilson(wrong / bands.counts[4].sum(), bands.counts[4].sum())
    assert (bands.low[4], bands.high[4]) == pytest.approx((low, high))
    assert np.isnan(bands.mean[1])
    assert bands.checks[0].passed


def test_chance_is_rarely_confirmed() -> None:
    confirmed = sum(
        any(explain(MODEL, rows(400, seed, planted=0.1), SegvizOptions(shuffles=199)).slices.confirmed)
        for seed in range(60)
    )
    assert confirmed <= 9  # 99.8 % of binomial(60, 0.05) are at most 9


def test_a_model_that_was_never_wrong_has_nothing_to_find() -> None:
    result = explain(MODEL, rows(300, wrong=0, planted=0), QUICK)
    assert result.slices.says == ()
    assert result.slices.describe() == ("No kind of rows was found where the model is worse than elsewhere.",)
    assert result.tree.says == ("all rows",)
    assert result.bands.overall == 0.0


def test_the_result_is_written_and_read_and_the_same_seed_gives_it_again(planted: SegvizResult) -> None:
    assert SegvizResult.from_json(planted.to_json()) == planted
    again = explain(MODEL, rows(3000), QUICK, Work(workers=2, memory_bytes=1 << 21))
    np.testing.assert_array_equal(again.slices.scores, planted.slices.scores)
    assert again.slices.says == planted.slices.says
    assert explain(MODEL, rows(3000), QUICK, Work(seed=1)).slices != planted.slices


def test_every_view_is_drawn_and_tabled(planted: SegvizResult) -> None:
    assert list(planted.views()) == ["bands", "holders", "slices", "tree"]
    for view in planted.views().values():
        assert view.to_svg().startswith("<svg")
        lengths = {len(column) for column in view.to_columns().values()}
        assert len(lengths) == 1
        assert view.warnings()


def test_slices_may_name_who_holds_the_rows_where_that_is_asked_for() -> None:
    data = rows(2000, planted=0.1)
    assert data.labels is not None
    random = np.random.default_rng(5)
    flip = (data.beside["partner"] == "Basel") & (data.values[:, 1] >= 2) & (random.random(2000) < 0.7)
    data = dataclasses.replace(data, labels=data.labels ^ flip)
    named = explain(MODEL, data, SegvizOptions(shuffles=499, alpha=0.8, by_beside=True)).slices
    assert {"partner = Basel", "oldpeak >= 2 mm"} <= set(named.says[0].split(" and "))
    assert "partner" not in explain(MODEL, data, QUICK).slices.says[0]


def test_regression_counts_too_high_and_too_low() -> None:
    data = Rows.of([[0.0], [1.0], [2.0], [3.0], [4.0]], labels=[0.0, 1.5, 1.0, 3.2, 9.0])
    judged = judge(model_of_function(lambda v: v[:, 0], ["x1"]), data, Work(), output="", threshold=0.5, loss="")
    np.testing.assert_allclose(judged.errors, [0, 0.5, 1.0, 0.2, 5.0])
    assert [judged.names[cell] for cell in judged.cells] == ["near", "near", "too high", "near", "too low"]


def test_ten_thousand_classes_are_asked_about_in_little_memory() -> None:
    classes = tuple(str(k) for k in range(10_000))
    largest: list[int] = []

    def one_hot(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> object:
        largest.append(len(values))
        return (np.arange(10_000) == values).astype(np.float64)

    random = np.random.default_rng(0)
    values = random.integers(0, 10_000, (200, 1)).astype(np.float64)
    labels = np.where(np.arange(200) < 20, 0, values[:, 0]).astype(np.int64)
    data = Rows((Feature(name="x"),), values, labels, classes)
    work = Work(memory_bytes=4 << 20)
    for loss in ("error_rate", "brier"):
        judged = judge(model_of_function(one_hot, ["x"], classes), data, work, output="", threshold=0.5, loss=loss)
        assert judged.errors.sum() == pytest.approx(20 * (2 if loss == "brier" else 1))
        assert judged.names == ("right", "wrong")
    assert max(largest) * 10_000 * 8 <= 4 << 20


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_rows_give_limits_and_no_wonders(count: int) -> None:
    result = explain(MODEL, rows(count), QUICK)
    assert result.slices.says == ()
    assert any("Too few rows" in line for line in result.slices.warnings())
    assert result.bands.counts.sum() == count
    assert SegvizResult.from_json(result.to_json()) == result
    for view in result.views().values():
        view.to_svg()


def test_columns_that_say_nothing_are_named_as_a_limit() -> None:
    values = np.full((80, 3), np.nan)
    values[:, 0] = 60.0
    data = Rows(FEATURES, values, np.arange(80) % 2, ("no", "yes"))
    result = explain(MODEL, data, QUICK)
    assert "No column tells these rows apart." in result.slices.caveats
    assert result.holders is None
    assert list(result.views()) == ["bands", "slices", "tree"]


def test_rows_of_the_training_are_named_as_a_limit() -> None:
    trained = dataclasses.replace(rows(200), held_out=False)
    result = explain(MODEL, trained, QUICK)
    assert "was trained on these rows" in result.bands.warnings()[0]


def test_what_cannot_be_asked_is_refused_by_name() -> None:
    data = rows(100)
    with pytest.raises(BadInput, match="no labels"):
        explain(MODEL, dataclasses.replace(data, labels=None), QUICK)
    with pytest.raises(NotFound, match="no such class"):
        explain(MODEL, data, SegvizOptions(output="perhaps"))
    with pytest.raises(NotFound, match="no such column"):
        explain(MODEL, data, SegvizOptions(beside="ward"))
    with pytest.raises(BadInput, match="another kind of model"):
        explain(MODEL, data, SegvizOptions(loss="squared_error"))
    with pytest.raises(BadInput, match="none of the model's classes"):
        explain(MODEL, dataclasses.replace(data, labels=np.full(100, 2)), QUICK)
    with pytest.raises(BadInput, match="different kinds"):
        explain(MODEL, dataclasses.replace(data, classes=(), labels=np.zeros(100)), QUICK)
    with pytest.raises(BadInput, match="no rows"):
        explain(MODEL, data.take(slice(0, 0)), QUICK)
    with pytest.raises(BadInput, match="what is no number"):
        explain(dataclasses.replace(MODEL, function=lambda v: np.full((len(v), 2), np.nan)), data, QUICK)
    with pytest.raises(Stopped):
        explain(MODEL, data, QUICK, Work(stopped=lambda: True))


def test_bands_of_a_number_are_quantiles_and_of_a_chance_equally_wide() -> None:
    data = Rows.of(np.arange(100.0)[:, None], labels=np.zeros(100))
    judged = judge(model_of_function(lambda v: v[:, 0], ["x1"]), data, Work(), output="", threshold=0.5, loss="")
    places, names = bands_of(judged, 4, chance=False)
    assert np.bincount(places).tolist() == [25, 25, 25, 25]
    assert names[0] == "below 24.75"
    assert bands_of(judged, 2, chance=True)[1] == ("below 0.5", "0.5 and more")


def test_the_largest_of_many_holders_are_told_apart() -> None:
    column = np.repeat([f"p{k:03d}" for k in range(100)], np.arange(1, 101))
    data = Rows.of(np.zeros((len(column), 1)), labels=np.zeros(len(column)), beside={"partner": column})
    found = beside_of(data, "")
    assert found is not None
    _, places, names, caveats = found
    assert names[-1] == "51 others"
    assert np.bincount(places)[-1] == sum(range(1, 52))
    assert len(caveats) == 1
    timed = dataclasses.replace(data, beside={"time": np.arange(len(column), dtype=np.float64)})
    found = beside_of(timed, "time")
    assert found is not None
    assert np.bincount(found[1]).tolist() == [1010] * 5


@pytest.mark.parametrize(
    ("columns", "mebibytes", "said"),
    [(20, 256, ""), (20, 2, "more than 2 conditions"), (40, 1, "Only slices of one condition")],
)
def test_more_slices_than_memory_holds_are_searched_less_deeply_and_that_is_said(
    columns: int, mebibytes: int, said: str
) -> None:
    data, model = many_columns(300, columns)
    slices = explain(model, data, QUICK, Work(memory_bytes=mebibytes << 20)).slices
    assert said in slices.caveats[0]
    assert ("searched" in slices.caveats[0]) == bool(said)
    assert max(len(line.split(" and ")) for line in slices.says) <= {"": 3, "m": 2, "O": 1}[said[:1]]


def test_more_conditions_than_memory_holds_are_refused_by_name() -> None:
    data, model = many_columns(6000, 20)
    with pytest.raises(BadInput, match="more than memory holds"):
        explain(model, data, QUICK, Work(memory_bytes=1 << 20))


def many_columns(count: int, columns: int) -> tuple[Rows, FunctionModel]:
    random = np.random.default_rng(0)
    values = random.normal(size=(count, columns))
    labels = (values[:, 0] > 0) ^ (random.random(count) < 0.2)
    data = Rows.of(values, labels=labels.astype(np.int64))
    return data, model_of_function(lambda v: (v[:, 0] > 0).astype(float), data.features, ("0", "1"))


def test_bars_and_dots_of_a_named_class_of_three_are_about_the_same_errors() -> None:
    random = np.random.default_rng(3)
    said = random.dirichlet([1, 1, 1], 400)
    labels = np.array([random.choice(3, p=one) for one in said])
    model = model_of_function(lambda values: values, ["a", "b", "c"], ("a", "b", "c"))
    found = explain(model, Rows.of(said, ["a", "b", "c"], labels, ("a", "b", "c")), SegvizOptions(output="a"))
    wrong = found.bands.counts[:, 1:3].sum(axis=1)
    known = found.bands.counts.sum(axis=1) > 0
    np.testing.assert_allclose(found.bands.mean[known], (wrong / found.bands.counts.sum(axis=1))[known])


def test_the_worst_segment_is_one_of_a_few_rows_at_least_and_slices_are_told_first() -> None:
    data = rows(400)
    alone = dataclasses.replace(data, beside={"partner": np.array(["lonely", *["many"] * 399])})
    wrong = dataclasses.replace(alone, labels=np.append(1 - (chances(data.values[:1]) > 0.5), data.need_labels()[1:]))
    found = explain(MODEL, wrong, QUICK)
    assert found.holders is not None
    assert found.holders.mean[found.holders.names.index("lonely")] == 1
    assert found.holders.describe()[0].startswith("By partner, many is worst")
    assert found.describe()[: len(found.slices.describe())] == found.slices.describe()


def test_skewed_errors_are_a_limit_and_a_picture_keeps_the_end_of_a_long_condition() -> None:
    random = np.random.default_rng(4)
    name = "serum creatinine concentration at admission to the ward"
    values = random.normal(size=(300, 1))
    errors = random.lognormal(0, 1.2, 300) * np.where(values[:, 0] > 0.5, 4, 1)
    model = model_of_function(lambda cells: np.zeros(len(cells)), [name])
    found = explain(model, Rows.of(values, [name], errors), QUICK)
    assert any("far larger errors than most (skewness" in line for line in found.warnings())
    even = explain(model, Rows.of(values, [name], random.random(300)), QUICK)
    assert not any("skewness" in line for line in even.warnings())
    said, drawn = found.slices.says[0], found.slices.picture().panels[0].y.names[0]
    assert said.startswith(name)
    assert len(drawn) <= 42
    assert drawn.split()[-1] == said.split()[-1]


def test_a_prediction_is_not_a_predicted_prediction() -> None:
    data = Rows.of(np.arange(100.0)[:, None], labels=np.zeros(100))
    model = model_of_function(lambda values: values[:, 0], ["x1"])
    found = explain(model, data, QUICK)
    assert found.bands.describe()[0].startswith("By prediction, ")
    assert target_of(model, data, data.values, 0, PrimOptions()).name == "prediction"
