"""Labels are held against the model once, and alike, whatever is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression

from aimass.explain import gap, prim, segviz
from aimass.explain.labels import checked_labels
from aimass.explain.models import FunctionModel, asked, model_of_estimator, model_of_function
from aimass.explain.questions import Asking, question
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

VALUES = np.random.default_rng(0).normal(size=(120, 2))
CLASSIFIER = model_of_function(lambda v: 1 / (1 + np.exp(-3 * v[:, 0])), ["x1", "x2"], ("1", "2"))
NUMBER = model_of_function(lambda v: v[:, 0], ["x1", "x2"])
QUESTIONS: dict[str, Callable[[FunctionModel, Rows], Any]] = {
    "gap": gap.explain,
    "prim": lambda model, rows: prim.explain(model, rows, prim.PrimOptions(grid=2)),
    "bands": lambda model, rows: prim.explain(model, rows, prim.PrimOptions(target="label", grid=2)),
    "segviz": segviz.explain,
}
TRUE = (VALUES[:, 0] > 0).astype(np.int64)


def odd(labels: npt.ArrayLike, classes: tuple[str, ...] = ()) -> Rows:
    return dataclasses.replace(Rows.of(VALUES), labels=np.asarray(labels), classes=classes)


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize(
    ("model", "rows", "why"),
    [
        (CLASSIFIER, odd(1.0 + TRUE), "different kinds"),
        (CLASSIFIER, odd(np.where(TRUE, 5, 0)), "none of the model's classes"),
        (CLASSIFIER, odd(np.where(TRUE, 1, -1)), "none of the model's classes"),
        (NUMBER, odd(np.where(TRUE, np.nan, 1.0)), "labels are missing"),
        (NUMBER, odd(TRUE, ("no", "yes")), "different kinds"),
    ],
    ids=["floats", "five", "unlabelled", "nan", "words"],
)
def test_labels_that_do_not_fit_are_refused_by_every_question(
    ask: Callable[[FunctionModel, Rows], Any], model: FunctionModel, rows: Rows, why: str
) -> None:
    with pytest.raises(BadInput, match=why) as refused:
        ask(model, rows)
    assert refused.value.code == "explain.labels"


def test_whole_numbers_are_places_of_a_classifier_and_numbers_of_any_other_model() -> None:
    assert checked_labels(CLASSIFIER, odd(TRUE)).tolist() == TRUE.tolist()
    assert checked_labels(NUMBER, Rows.of(VALUES, labels=TRUE)).tolist() == TRUE.tolist()
    assert "mean" in str(segviz.explain(NUMBER, Rows.of(VALUES, labels=TRUE)).describe())


def test_a_class_that_no_row_has_is_no_hindrance() -> None:
    rows = Rows.of(VALUES, labels=TRUE + 1)
    assert rows.classes == ("0", "1", "2")
    with pytest.raises(BadInput, match="another order"):
        prim.explain(CLASSIFIER, rows, prim.PrimOptions(grid=2))
    found = rows.labelled(CLASSIFIER.outputs)
    assert found.need_labels().tolist() == TRUE.tolist()
    bands = prim.explain(CLASSIFIER, found, prim.PrimOptions(grid=2)).bands.total()
    assert bands[-1].observed > 0.9
    asking = Asking(question("prim"), CLASSIFIER, rows, prim.PrimOptions(grid=2))
    assert asking.answer(Work()).describe()
    with pytest.raises(BadInput, match="does not know"):
        Rows.of(VALUES, labels=TRUE).labelled(CLASSIFIER.outputs)
    unlabelled = dataclasses.replace(rows, labels=np.where(TRUE, 1, -1)).labelled(CLASSIFIER.outputs)
    assert set(unlabelled.need_labels()) == {0, -1}


def test_classes_that_training_had_as_fractions_are_whole_numbers_by_name() -> None:
    fitted = LogisticRegression().fit(VALUES, TRUE + 1.0)
    model = model_of_estimator(fitted, ["x1", "x2"])
    assert model.outputs == ("1", "2")
    assert checked_labels(model, Rows.of(VALUES, labels=TRUE + 1).labelled(model.outputs)).tolist() == TRUE.tolist()


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (lambda v: 100 / (1 + np.exp(-v[:, 0])), "to 86"),
        (lambda v: np.stack([-v[:, 0], v[:, 0]], axis=1), "-"),
        (lambda v: np.full((len(v), 2), 0.4), "sum to 0.8"),
    ],
    ids=["per cent", "logits", "independent"],
)
def test_what_is_no_probability_is_refused(answer: Callable[[Any], Any], value: str) -> None:
    model = model_of_function(answer, ["x1", "x2"], ("no", "yes"))
    with pytest.raises(BadInput, match="answers no probabilities") as refused:
        asked(model, Work())(VALUES)
    assert refused.value.code == "explain.probabilities"
    assert value in str(refused.value)
    numbers = dataclasses.replace(model, classifies=False)
    assert asked(numbers, Work())(VALUES).shape == (120, 2)


def test_probabilities_that_are_rounded_are_probabilities() -> None:
    def answer(v: Any) -> Any:
        said = np.round(1 / (1 + np.exp(-v[:, 0])), 3)
        return np.stack([1 - said + 2e-5, said], axis=1).astype(np.float32)

    assert asked(model_of_function(answer, ["x1", "x2"], ("no", "yes")), Work())(VALUES).shape == (120, 2)
    assert asked(CLASSIFIER, Work())(VALUES[:0]).shape == (0, 2)
