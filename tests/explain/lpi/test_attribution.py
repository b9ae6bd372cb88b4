"""The waterfall of one row: words and units, intervals that hold, and limits that are said."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.charts.picture import Bars
from aimass.explain.lpi import LpiOptions, LpiResult, explain
from aimass.explain.lpi.attribution import Attribution, attribution
from aimass.explain.lpi.game import game_of
from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, LimitExceeded, NotFound
from tests.explain.lpi.games import Floats, rows_of

PATIENT = (
    Feature(name="age", unit="years"),
    Feature(name="sex", kind="category", values=("Female", "Male")),
    Feature(name="unused"),
)


def risk(values: Floats) -> Floats:
    return np.asarray(0.01 * values[:, 0] + 0.2 * np.nan_to_num(values[:, 1], nan=0.5))


MODEL = model_of_function(risk, PATIENT, ("no", "yes"), name="risk")


def patients(seed: int, number: int) -> Rows:
    rng = np.random.default_rng(seed)
    cells = [rng.integers(20, 71, number), rng.integers(0, 2, number), rng.normal(size=number)]
    return Rows(PATIENT, np.stack(cells, axis=1).astype(np.float64), name="ward")


def linear(features: int) -> FunctionModel:
    weights = np.linspace(-1, 1, features)
    return model_of_function(lambda values: values @ weights, [f"f{place}" for place in range(features)])


def test_a_row_is_told_with_words_and_units_and_the_values_of_the_closed_form() -> None:
    rows = patients(1, 60)
    rows.values[0] = [70, 1, 0]
    found = explain(MODEL, rows).attribution
    means = rows.values.mean(axis=0)
    np.testing.assert_allclose(found.values, [0.01 * (70 - means[0]), 0.2 * (1 - means[1]), 0], atol=1e-12)
    assert found.cells == ("70 years", "Male", "0")
    assert found.describe()[0].startswith(
        "Probability of yes of row 1: 90 %, on average over the background (all 60 rows"
    )
    assert "age = 70 years: +" in found.describe()[1]
    assert "Not told from nothing: unused." in found.describe()
    assert all(check.passed for check in found.checks)
    assert LpiResult.from_json(explain(MODEL, rows).to_json()) == explain(MODEL, rows)


def test_log_odds_of_a_logistic_model_are_linear() -> None:
    weights, rows = np.array([1.0, -2.0, 0.5]), Rows.of(rows_of(2, 50, 3))
    model = model_of_function(lambda values: 1 / (1 + np.exp(-values @ weights)), ["a", "b", "c"], ("no", "yes"))
    rows = Rows.of(rows.values, ["a", "b", "c"])
    found = explain(model, rows, LpiOptions(scale="log_odds", row=4)).attribution
    np.testing.assert_allclose(found.values, weights * (rows.values[4] - rows.values.mean(axis=0)), atol=1e-9)


def test_the_steps_of_the_picture_go_from_the_average_to_the_prediction() -> None:
    rows = Rows.of(rows_of(3, 40, 20), [f"f{place}" for place in range(20)])
    found = explain(linear(20), rows, LpiOptions(pairs=50)).attribution
    (panel,) = found.picture().panels
    bars = next(layer for layer in panel.layers if isinstance(layer, Bars))
    assert bars.begin is not None
    np.testing.assert_allclose(bars.begin[0], found.base)
    np.testing.assert_allclose(bars.end[-1], found.said)
    np.testing.assert_allclose(bars.begin[1:], bars.end[:-1])
    assert panel.y.names[-2].startswith("6 others: ")
    assert not found.exact
    assert "standard error" in found.describe()[-1]


def test_a_drawn_background_leaves_an_interval_that_holds_the_truth() -> None:
    population = patients(4, 4_000)
    row = population.take(slice(0, 1))
    truth = 0.01 * (row.values[0, 0] - population.values[:, 0].mean())
    inside = []
    for seed in range(300):
        game = game_of(MODEL, row, Work(seed), LpiOptions(references=30), background=population)
        found = attribution(game, row, 0, Work(seed))
        inside.append(found.low[0] <= truth <= found.high[0])
    assert 0.92 <= np.mean(inside) <= 0.98


def test_centres_have_no_such_interval() -> None:
    found = explain(MODEL, patients(5, 200), LpiOptions(references=10, background_by="kmeans")).attribution
    np.testing.assert_array_equal(found.low, found.values)
    assert "centres that stand for 200 rows" in found.background


def test_what_limits_an_answer_is_said() -> None:
    rows = patients(6, 40)
    rows.values[0, 1], rows.values[1] = 7.0, np.nan
    rows.values[2:, 2] = rows.values[2:, 0] * 2
    model = model_of_function(lambda values: risk(np.nan_to_num(values)).clip(0, 1), PATIENT, ("no", "yes"))
    assert any("none of the known" in line for line in explain(model, rows).warnings())
    told = explain(model, rows.take(slice(1, None)), LpiOptions(output="no")).warnings()
    assert any("All cells of the row are missing" in line for line in told)
    assert any("age and unused tell the same" in line for line in told)
    grouped = explain(model, rows.take(slice(2, None)), LpiOptions(correlated=0.95))
    assert grouped.attribution.names == ("age and unused", "sex")
    assert [line for line in grouped.warnings() if "own cells" not in line] == []


def test_a_model_that_answers_differently_each_time_is_warned_of() -> None:
    rng = np.random.default_rng(0)
    model = model_of_function(lambda values: rng.random(len(values)), PATIENT, ("no", "yes"))
    assert any("sum to the prediction" in line for line in explain(model, patients(7, 30)).warnings())


def test_what_cannot_be_answered_is_refused() -> None:
    rows = patients(8, 30)
    with pytest.raises(BadInput, match="no such row"):
        explain(MODEL, rows, LpiOptions(row=30))
    with pytest.raises(NotFound, match="no such output"):
        explain(MODEL, rows, LpiOptions(output="perhaps"))
    with pytest.raises(BadInput, match="background is the row itself"):
        explain(MODEL, rows.take(slice(0, 1)))
    with pytest.raises(BadInput, match="background is empty"):
        explain(MODEL, rows, background=rows.take(slice(0, 0)))
    with pytest.raises(BadInput, match="other columns"):
        explain(MODEL, rows, background=Rows.of(np.zeros((3, 3))))
    with pytest.raises(LimitExceeded, match="too many features"):
        explain(linear(14), Rows.of(rows_of(9, 5, 14), [f"f{p}" for p in range(14)]), LpiOptions(method="exact"))
    with pytest.raises(BadInput, match="no number"):
        explain(model_of_function(lambda values: values[:, 0] * np.nan, PATIENT), rows)


def test_one_feature_one_class_and_very_many() -> None:
    one = Rows.of(rows_of(10, 5, 1), ["x"])
    assert explain(model_of_function(lambda v: v[:, 0], ["x"]), one).attribution.values.shape == (1,)
    certain = model_of_function(lambda v: np.ones((len(v), 1)), ["x"], ("only",), classifies=True)
    np.testing.assert_array_equal(explain(certain, one).attribution.values, [0.0])
    names = tuple(f"c{place}" for place in range(10_000))
    many = model_of_function(lambda v: np.full((len(v), 10_000), 1e-4), ["x"], names)
    assert explain(many, one, LpiOptions(output="c77")).attribution.output == "c77"


def test_the_result_is_the_same_for_any_memory() -> None:
    rows = patients(11, 30)
    found: list[Attribution] = [
        explain(MODEL, rows, work=Work(memory_bytes=memory, workers=workers)).attribution
        for memory, workers in ((1 << 20, 1), (1 << 28, 2))
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("scale", ["probability", "log_odds"])
def test_a_feature_that_the_model_does_not_use_moved_nothing_whatever_the_rounding(single: bool, scale: str) -> None:
    names = ["a", "b", "c", "d"]

    def said(values: Floats) -> Floats:
        known = np.nan_to_num(values)
        chance = 1 / (1 + np.exp(-(1.3 * known[:, 0] + 0.7 * known[:, 1] + 0.3)))
        if single:  # a network's sums hang on where a row stands among others
            chance = (chance * (1 + 1e-7 * (np.arange(len(chance)) % 3))).astype(np.float32)
        return np.asarray(chance, np.float64)

    rng = np.random.default_rng(7)
    cells = rng.normal(size=(60, 4))
    cells[rng.random(cells.shape) < 0.05] = np.nan
    model, rows = model_of_function(said, names, ("no", "yes")), Rows.of(cells, names)
    for row in range(20):
        options = LpiOptions(row=row, scale="log_odds" if scale == "log_odds" else "probability")
        found = attribution(game_of(model, rows, Work(), options), rows, row, Work())
        assert found.values[2:].tolist() == found.low[2:].tolist() == found.high[2:].tolist() == [0, 0]
        assert not any(f"{name} =" in found.describe()[1] for name in "cd")
        told = [line for line in found.describe() if line.startswith("Not told from nothing")]
        assert not told or told[0].endswith("c and d.") or told[0].endswith("c, d.")


def test_a_small_effect_on_a_large_number_is_no_rounding() -> None:
    model = model_of_function(lambda values: 1e6 + 0.001 * values[:, 0], ["a", "b"])
    rows = Rows.of(rows_of(5, 40, 2), ["a", "b"])
    found = attribution(game_of(model, rows, Work()), rows, 0, Work())
    assert found.values[0] == pytest.approx(0.001 * (rows.values[0, 0] - rows.values[:, 0].mean()), rel=1e-4)
    assert found.values[1] == 0


def test_the_average_has_an_interval_that_holds_that_of_all_rows_and_a_long_name_keeps_its_value() -> None:
    name, rng, held = "serum creatinine concentration at admission", np.random.default_rng(11), 0
    model = model_of_function(lambda values: 1 / (1 + np.exp(-values[:, 0])), [name], ("no", "yes"))
    for _ in range(200):
        rows = Rows.of(rng.normal(size=(50, 1)), [name])
        found = attribution(game_of(model, rows, Work()), rows, 0, Work())
        truth = 0.5  # whichever class is told
        held += found.base_low <= truth <= found.base_high
    assert 180 <= held <= 198
    assert " % over all rows like these)." in found.describe()[0]
    label = found.picture().panels[0].y.names[1]
    assert "…" in label
    assert label.endswith(" points")
    assert len(label) <= 42
