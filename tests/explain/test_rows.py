"""The table that is explained: columns by name, cells as people read them, and the same batch that the task would see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from aimass.explain.models import asked, lineage_of, model_of_estimator, model_of_function, model_of_task
from aimass.explain.rows import Feature, Rows, rows_of_table
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, DeadlinePassed, NotFound, Stopped
from aimass.proto.predictors import examples
from aimass.proto.rows import Table, encode
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob

HEART = load(locate("heart"))


def table(rows: int) -> Table:
    batch = examples(HEART.schema, rows)
    numbers = {c.name: batch.numbers[:, place].astype(np.float64) for place, c in enumerate(HEART.schema.numbers)}
    codes = {c.name: batch.categories[:, place] for place, c in enumerate(HEART.schema.categories)}
    return Table(HEART.schema, numbers | codes | {"disease": np.arange(rows) % 2}, ())


def test_rows_of_a_table_are_what_the_task_would_see() -> None:
    rows, batch = rows_of_table(table(7)), encode(table(7))
    again = rows.batch()
    np.testing.assert_array_equal(again.numbers, batch.numbers)
    np.testing.assert_array_equal(again.categories, batch.categories)
    np.testing.assert_array_equal(again.labels, batch.labels)


def test_a_task_answers_the_same_through_the_seam_in_any_chunks() -> None:
    rows = rows_of_table(table(40), held_out=True)
    blob = Blob(first_model(HEART, 3))
    model = model_of_task(HEART, blob, name="heart", digest="d")
    whole = asked(model, Work())(rows.values)
    chunked = asked(model, Work(memory_bytes=1 << 20, workers=2))(np.tile(rows.values, (60, 1)))
    np.testing.assert_allclose(chunked, np.tile(whole, (60, 1)), atol=1e-7)
    np.testing.assert_array_equal(whole, HEART.predict(blob, table(40)))
    assert lineage_of(model, rows, Work()).line().startswith("heart d; rows: 40 rows, held out")


def test_cells_are_told_with_units_and_words() -> None:
    assert Feature(name="age", unit="years").told(57.0) == "57 years"
    assert Feature(name="sex", kind="category", values=("Female", "Male")).told(1.0) == "Male"
    assert Feature(name="x").told(np.nan) == "missing"


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(BadInput, match="share a name"):
        Rows.of([[1, 2]], ["a", "a"])
    with pytest.raises(BadInput, match="other columns"):
        Rows.of([[1, 2]], ["a"])
    with pytest.raises(BadInput, match="infinite"):
        Rows.of([[np.inf]])
    with pytest.raises(NotFound, match="no such feature"):
        Rows.of([[1.0]]).column("b")
    with pytest.raises(BadInput, match="no labels"):
        Rows.of([[1.0]]).need_labels()


def test_the_digest_is_of_cells_and_labels_and_not_of_the_name() -> None:
    one = Rows.of([[1.0, np.nan]], labels=[1])
    assert one.digest == Rows.of([[1.0, np.nan]], labels=[1], name="other").digest
    assert one.digest != Rows.of([[1.0, np.nan]], labels=[0]).digest
    assert one.digest != Rows.of([[2.0, np.nan]], labels=[1]).digest
    assert Rows.of([[0.0]]).digest == Rows.of([[-0.0]]).digest


def test_a_model_that_answers_nan_or_another_shape_is_named() -> None:
    odd = model_of_function(lambda values: np.where(values[:, 0] > 1, np.nan, 0.0), ["a"])
    with pytest.raises(BadInput, match="what is no number"):
        asked(odd, Work())(np.array([[0.0], [2.0]]))
    wide = model_of_function(lambda values: np.zeros((len(values), 3)), ["a"])
    with pytest.raises(BadInput, match="another shape"):
        asked(wide, Work())(np.zeros((2, 1)))


def test_one_probability_of_two_classes_becomes_both() -> None:
    model = model_of_function(lambda values: values[:, 0], ["a"], ["no", "yes"])
    np.testing.assert_allclose(model.predict(np.array([[0.2]])), [[0.8, 0.2]])
    assert model.classifies


class Estimator:
    classes_ = (0, 1)

    def predict_proba(self, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> object:
        return np.stack([1 - values[:, 0], values[:, 0]], axis=1)


def test_an_estimator_is_asked_for_chances() -> None:
    model = model_of_estimator(Estimator(), ["a"])
    assert (model.name, model.outputs) == ("Estimator", ("0", "1"))
    with pytest.raises(BadInput, match="predicts nothing"):
        model_of_estimator(object(), ["a"])


def test_work_stops_when_it_is_told_to_and_when_its_time_is_over() -> None:
    with pytest.raises(Stopped):
        Work(stopped=lambda: True).check()
    clock = iter([0.0, 0.5, 2.0])
    work = Work(now=lambda: next(clock)).within(1.0)
    work.check()
    with pytest.raises(DeadlinePassed):
        work.check()


def test_parts_of_work_tell_their_share_of_the_whole() -> None:
    told: list[tuple[float, str]] = []
    work = Work(tell=lambda share, what: told.append((round(share, 3), what)))
    for _, part in work.parts(("a", "b")):
        part.tell(0.5, "")
    assert told == [(0.0, "a"), (0.25, "a"), (0.5, "b"), (0.75, "b")]


def test_random_streams_are_of_their_purpose_and_seed() -> None:
    draws = {Work(seed).rng(*purpose).integers(1 << 60) for seed in (1, 2) for purpose in (("a", 1), ("a", 2), ("b",))}
    assert len(draws) == 6
    assert Work(1).rng("a", 1).integers(1 << 60) == Work(1).rng("a", 1).integers(1 << 60)


def test_classes_in_another_order_than_the_models_are_refused() -> None:
    model = model_of_function(lambda values: values[:, 0], ["a"], ["no", "yes"])
    rows = Rows.of([[0.1], [0.2]], ["a"], [0, 1], ["yes", "no"])
    with pytest.raises(BadInput, match="another order"):
        lineage_of(model, rows, Work())
    assert lineage_of(model, Rows.of([[0.1], [0.2]], ["a"], [0, 1]), Work()).rows == 2


def test_images_are_no_rows() -> None:
    schema = load(locate("nuclei")).schema
    pixels = np.zeros((2, *schema.columns[0].shape), np.uint8)  # type: ignore[union-attr]
    columns = {schema.columns[0].name: pixels, schema.label.name: pixels}
    with pytest.raises(BadInput, match="neither a number nor a category"):
        rows_of_table(Table(schema, columns, ()))


def test_rows_of_a_data_frame_keep_its_names_and_labels_may_be_words() -> None:
    frame = pd.DataFrame({"age": [30, 40, 50], "bp": [120.0, None, 130.0]})
    rows = Rows.of(frame, labels=["yes", "no", "yes"])
    assert ([feature.name for feature in rows.features], rows.classes) == (["age", "bp"], ("no", "yes"))
    assert rows.labels is not None
    assert rows.labels.tolist() == [1, 0, 1]
    given = Rows.of(frame, labels=frame["age"].map({30: "no", 40: "no", 50: "yes"}), classes=("yes", "no", "never"))
    assert given.labels is not None
    assert (given.classes, given.labels.tolist()) == (("yes", "no", "never"), [1, 1, 0])
    assert len(Rows.of([1.0, 2.0], ["a", "b"])) == 1


@pytest.mark.parametrize(
    ("values", "labels", "classes", "said"),
    [
        (np.zeros(3), None, (), "neither rows nor columns"),
        ([["a"]], None, (), "no numbers"),
        (np.zeros((2, 1)), ["a", "b"], ("a",), "none of the classes"),
        (np.zeros((2, 1)), ["a", None], (), "labels are missing"),
        (np.zeros((2, 1)), [1.0, np.nan], ("a", "b"), "no place among the classes"),
    ],
)
def test_what_makes_no_rows_is_named(values: Any, labels: Any, classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Rows.of(values, labels=labels, classes=classes)
