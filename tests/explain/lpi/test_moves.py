"""Rows that are changed: what if, the nearest row with another prediction, and features taken away in order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from aimass.explain.lpi import LpiOptions, LpiResult, explain
from aimass.explain.lpi.attribution import attribution
from aimass.explain.lpi.cells import changes_of
from aimass.explain.lpi.counterfactual import Counterfactual
from aimass.explain.lpi.faithfulness import faithfulness
from aimass.explain.lpi.game import Game, game_of
from aimass.explain.lpi.goals import goal_of
from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound
from tests.explain.lpi.games import Floats, rows_of

NAMES = ("a", "b", "c", "d")
MIXED = (Feature(name="age", unit="years"), Feature(name="cp", kind="category", values=("none", "typical", "other")))


def chance(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(values[:, 0] + values[:, 1] * (values[:, 2] > 0) - 1.5))))


MODEL = model_of_function(chance, NAMES, ("no", "yes"))
ROWS = Rows.of(np.round(rows_of(1, 60, 4), 1), NAMES)


def found_by(model: FunctionModel, rows: Rows, **options: object) -> Counterfactual:
    found = explain(model, rows, LpiOptions(**options)).counterfactual  # type: ignore[arg-type]
    assert found is not None
    return found


def nearest_by_hand(model: FunctionModel, rows: Rows, row: int, kept: Sequence[int] = ()) -> tuple[int, float]:
    """The fewest changes, then the least distance, over everything that was seen."""
    width, cells = np.ptp(rows.values, axis=0), rows.values[row]
    label = model.predict(cells[None])[0].argmax()
    for changes in range(1, 5):
        best = np.inf
        for columns in itertools.combinations([c for c in range(4) if c not in kept], changes):
            for values in itertools.product(*(np.unique(rows.values[:, column]) for column in columns)):
                other = cells.copy()
                other[list(columns)] = values
                said = model.predict(other[None])[0]
                if said[1 - label] > said[label]:
                    best = min(best, float((np.abs(other - cells) / width).sum()))
        if np.isfinite(best):
            return changes, best
    return 0, np.inf


@pytest.mark.parametrize(("row", "kept"), [(0, ()), (3, ("a",)), (5, ()), (8, ("b",))])
def test_the_nearest_row_is_the_nearest_of_all_that_were_seen(row: int, kept: tuple[str, ...]) -> None:
    few = ROWS.take(slice(0, 20))
    changes, distance = nearest_by_hand(MODEL, few, row, [NAMES.index(name) for name in kept])
    found = found_by(MODEL, few, row=row, immutable=kept, most_changes=2)
    if changes > 2 or changes == 0:
        assert not found.ways
        return
    nearest = found.ways[0]
    assert len(nearest.names) == changes
    assert nearest.distance == pytest.approx(distance)
    assert not set(kept) & set(nearest.names)
    assert all(check.passed for check in found.checks)


def test_the_path_ends_where_the_model_says_something_else() -> None:
    found = found_by(MODEL, ROWS, row=0)
    assert found.ways
    for way in found.ways:
        assert (way.path[0] > 0.5) != (way.path[-1] > 0.5)
        assert way.path[0] == found.said
    assert found.describe()[0].startswith("The model says ")
    columns = found.to_columns()
    assert len(set(map(len, columns.values()))) == 1
    assert len(found.picture().panels) == len(found.ways)


def test_missing_categories_and_levels() -> None:
    rng = np.random.default_rng(4)
    rows = Rows(MIXED, np.stack([rng.integers(30, 80, 50), rng.integers(0, 3, 50)], axis=1).astype(np.float64))
    rows.values[0] = [np.nan, 0.0]

    def predict(values: Floats) -> Floats:
        return np.asarray(np.nan_to_num(values[:, 0], nan=50.0) + 40.0 * (values[:, 1] == 2))

    model = model_of_function(predict, MIXED, ("dose",))
    way = found_by(model, rows, target=">=88", immutable=("age",)).ways[0]
    assert (way.names, way.before, way.after, way.distance) == (("cp",), ("none",), ("other",), 1.0)
    down = found_by(model, rows, target="<=35")
    assert down.goal == "dose is at most 35"
    assert down.ways[0].before == ("missing",)
    assert explain(model, rows).counterfactual is None


def test_what_cannot_be_reached_is_said_with_what_was_searched() -> None:
    never = model_of_function(lambda values: np.full(len(values), 0.2), NAMES, ("no", "yes"))
    found = found_by(never, ROWS)
    assert found.ways == ()
    assert "No row was found for which the model says yes: all changes of one feature" in found.describe()[0]
    assert found.picture().panels
    held = found_by(MODEL, ROWS, immutable=NAMES)
    assert (held.ways, held.asked) == ((), 0)
    for target, message in ((">=x", "a level is a number"), ("perhaps", "no such label"), (">=0.0", "there already")):
        with pytest.raises(BadInput, match=message):
            explain(MODEL, ROWS, LpiOptions(target=target))
    with pytest.raises(NotFound, match="no such feature"):
        explain(MODEL, ROWS, LpiOptions(immutable=("z",)))


def test_a_number_changes_no_further_than_to_the_nearest_value_that_was_seen() -> None:
    cells = np.linspace(0, 1, 301)
    rows = Rows.of(cells[:, None], ["x"])
    model = model_of_function(lambda values: np.where(values[:, 0] >= 0.6049, 0.9, 0.1), ["x"], ("no", "yes"))
    way = found_by(model, rows, row=0).ways[0]
    assert way.distance == pytest.approx(cells[cells >= 0.6049].min())


def test_three_changes_are_found_where_fewer_do_not_do() -> None:
    rows = Rows.of(np.random.default_rng(8).integers(0, 4, (80, 30)).astype(np.float64), [f"f{p}" for p in range(30)])
    rows.values[0] = 0.0
    model = model_of_function(lambda v: 0.1 + 0.15 * (v[:, :3] == 3).sum(axis=1), rows.features, ("no", "yes"))
    found = found_by(model, rows)
    assert sorted(found.ways[0].names) == ["f0", "f1", "f2"]
    assert len(found.ways) == 1
    assert "the most promising of 3" in found.search
    assert not found_by(model, rows, most_changes=2).ways


def test_a_level_is_reached_by_the_level_itself() -> None:
    model = model_of_function(lambda values: values[:, 0], ["x"], ("dose",))
    for target, inside, outside in ((">=2.5", 2.5, 2.4999), ("<=2.5", 2.5, 2.5001)):
        margins = goal_of(model, np.array([outside]), target).margin(np.array([[inside], [outside]]))
        assert (margins > 0).tolist() == [True, False]


def test_one_hot_columns_change_together() -> None:
    hot = np.eye(3)[np.arange(30) % 3]
    rows = Rows.of(np.column_stack([hot, np.linspace(0, 1, 30)]), ["cp=a", "cp=b", "cp=c", "x"])
    model = model_of_function(lambda values: 0.1 + 0.8 * values[:, 2], rows.features, ("no", "yes"))
    way = found_by(model, rows).ways[0]
    assert (way.names, way.before, way.after) == (("cp",), ("a",), ("c",))


def test_what_if_moves_prediction_and_values_as_a_changed_row_has_them() -> None:
    found = explain(MODEL, ROWS, LpiOptions(row=2, what_if=("a=2.5", "d=0.1"))).what_if
    assert found is not None
    changed = ROWS.values.copy()
    changed[2, [0, 3]] = [2.5, 0.1]
    expected = explain(MODEL, Rows.of(changed, NAMES), LpiOptions(row=2), background=ROWS).attribution
    np.testing.assert_allclose(found.after.values, expected.values, atol=1e-12)
    assert found.after.said == pytest.approx(float(chance(changed[2:3])[0]))
    assert found.changes == ("a 2.5", "d 0.1")
    assert "would be" in found.describe()[0]


def test_changes_are_read_as_people_write_them() -> None:
    rows = Rows(MIXED, np.array([[50.0, 1.0], [60.0, 2.0]]), name="ward")
    read = changes_of(rows, ["age=61.5", "cp = other"])
    assert read == {0: 61.5, 1: 2.0}
    assert np.isnan(changes_of(rows, ["cp=missing"])[1])
    for text in ("age", "age=old", "age=inf", "cp=unseen"):
        with pytest.raises(BadInput):
            changes_of(rows, [text])
    model = model_of_function(lambda values: values[:, 0], MIXED)
    with pytest.raises(BadInput, match="nothing is changed"):
        explain(model, rows, LpiOptions(what_if=("age=50",)))
    far = explain(model, rows, LpiOptions(what_if=("age=90", "cp=none"))).what_if
    assert far is not None
    assert sum("outside of what was seen" in line for line in far.warnings()) == 2


def game(model: FunctionModel, rows: Rows) -> Game:
    return game_of(model, rows, Work())


def test_the_order_of_the_values_beats_random_orders_and_a_wrong_one_is_warned_of() -> None:
    rows = Rows.of(rows_of(5, 50, 8), [f"f{place}" for place in range(8)])
    model = model_of_function(lambda values: values @ np.arange(8.0), rows.features)
    one = game(model, rows)
    both = [attribution(one, rows, row, Work()) for row in range(10)]
    assert {found.said > found.base for found in both} == {True, False}
    assert all(max(faithfulness(one, rows, found, 30, Work()).beaten) == 0 for found in both)
    found = both[3]
    curves = faithfulness(one, rows, found, 30, Work())
    assert not curves.warnings()
    np.testing.assert_allclose([curves.deleted[0], curves.deleted[-1]], [found.said, found.base])
    np.testing.assert_allclose([curves.inserted[0], curves.inserted[-1]], [found.base, found.said])
    steps = np.sort(found.values)[:: -1 if found.said > found.base else 1]
    np.testing.assert_allclose(curves.inserted, found.base + np.concatenate([[0], np.cumsum(steps)]))
    turned = LpiResult.from_json(explain(model, rows, LpiOptions(row=3)).to_json()).attribution
    wrong = type(turned)(
        **{name: getattr(turned, name) for name in turned.__struct_fields__} | {"values": -turned.values}
    )
    assert faithfulness(one, rows, wrong, 30, Work()).warnings()


def test_worths_of_coalitions_are_means_over_the_background() -> None:
    one, cells = game(MODEL, ROWS), ROWS.values[7]
    inside = np.array([[True, False, True, False], [False] * 4, [True] * 4])
    mixed = ROWS.values.copy()
    mixed[:, [0, 2]] = cells[[0, 2]]
    expected = [chance(mixed).mean(), chance(ROWS.values).mean(), chance(cells[None])[0]]
    np.testing.assert_allclose(one.worths(cells, inside, Work(memory_bytes=1 << 20)), expected)


def test_all_views_have_pictures_tables_and_words() -> None:
    found = explain(MODEL, ROWS, LpiOptions(what_if=("a=3",)))
    assert list(found.views()) == ["attribution", "what_if", "counterfactual", "faithfulness"]
    for view in found.views().values():
        assert view.describe()
        assert view.picture().numbers() > 0
        assert len(set(map(len, view.to_columns().values()))) == 1
        assert type(view).from_json(view.to_json()) == view
    assert LpiResult.from_json(found.to_json()) == found


def test_progress_goes_forward_to_the_end() -> None:
    shares: list[float] = []
    explain(MODEL, ROWS, LpiOptions(what_if=("a=3",)), Work(tell=lambda share, _: shares.append(share)))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_change_of_hundredths_is_told_apart() -> None:
    rng = np.random.default_rng(5)
    temp = np.round(rng.normal(37, 0.02, 60), 3)
    rows = Rows.of(np.column_stack([temp, rng.normal(size=60)]), ["temp", "other"])
    model = model_of_function(lambda values: 1 / (1 + np.exp((values[:, 0] - 37) * 900)), ["temp", "other"], ("0", "1"))
    found = explain(model, rows, LpiOptions(what_if=("temp=36.961",)))
    assert found.what_if is not None
    assert found.what_if.describe()[0].startswith("With temp 36.96")
    assert found.counterfactual is not None
    assert found.counterfactual.ways
    for way in found.counterfactual.ways:
        assert all(before != after for before, after in zip(way.before, way.after, strict=True))


def test_pictures_of_changes_keep_the_values_of_a_long_name() -> None:
    name = "serum creatinine concentration at admission"
    rows = Rows.of(np.random.default_rng(6).normal(size=(60, 2)), [name, "other"])
    model = model_of_function(lambda values: 1 / (1 + np.exp(-3 * values[:, 0])), rows.features, ("0", "1"))
    found = explain(model, rows, LpiOptions(what_if=(f"{name}=0.25",)))
    assert found.what_if is not None
    assert found.counterfactual is not None
    for part, end in ((found.what_if, "→ 0.25"), (found.counterfactual, found.counterfactual.ways[0].after[0])):
        drawn = [word for word in part.picture().panels[0].y.names if word.startswith("serum")]
        assert drawn[0].endswith(end)
        assert len(drawn[0]) <= 42
