from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.tasks import fashion, heart
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.manifest import Category, Number, Schema, Text
from aimass.proto.predictors import examples, traced
from aimass.proto.preprocess import Tabular
from aimass.proto.rows import Batch
from aimass.proto.rows_servable import RowsServable
from aimass.proto.servable import Servable, check_inputs, check_outputs
from aimass.proto.task import Task, load_parameters
from aimass.proto.tensors import Blob

NUMBERS = Schema(
    name="numbers/1",
    columns=(
        Number(name="x", minimum=-1, maximum=1, required=True),
        Number(name="y", minimum=-1, maximum=1, missing_values=(-9,)),
    ),
    label=Number(name="z", minimum=-10, maximum=10),
)


class Sum(Task):
    """x + 2 y, or x where y is missing."""

    schema: ClassVar[Schema] = NUMBERS

    def build(self) -> torch.nn.Module:
        return Added()


class Added(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([[1.0], [2.0]]))

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        return torch.nan_to_num(numbers) @ self.weights


class Branching(Added):
    """Adds the number of rows where the first is above 0, which a trace cannot see."""

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        total = super().forward(numbers, categories)
        return total + 1 if len(numbers) == 1 else total


class BranchingSum(Sum):
    def build(self) -> torch.nn.Module:
        return Branching()


def served(task: Task) -> Servable:
    return task.servable(Blob(task.first(1)))


def tensors_of(task: Task, batch: Batch) -> dict[str, Any]:
    """A batch's rows as requests bring them."""
    schema = task.schema
    tensors: dict[str, Any] = {
        column.name: batch.numbers[:, place].astype(float) for place, column in enumerate(schema.numbers)
    }
    for place, column in enumerate(schema.categories):
        names = [*(value.encode() for value in column.values), b""]
        tensors[column.name] = np.array([names[code] for code in batch.categories[:, place]], object)[:, None]
    if batch.images is not None:
        tensors[schema.images[0].name] = batch.images
    if batch.texts is not None:
        tensors[schema.texts[0].name] = np.array([text.encode() for text in batch.texts], object)
    return tensors


@pytest.mark.parametrize("task", [heart.task, fashion.task, heart.trees], ids=["heart", "fashion", "trees"])
def test_what_is_served_is_what_was_trained(task: Task) -> None:
    parameters, batch = Blob(task.first(1)), examples(task.schema, 20)
    tensors = tensors_of(task, batch)
    servable = task.servable(parameters)
    assert check_inputs({spec.name: spec for spec in servable.inputs}, tensors) == 20
    answer = servable.infer(tensors)
    assert check_outputs(servable.outputs, answer, 20) is None
    trained = task.scored(parameters, batch)
    np.testing.assert_allclose(answer["probabilities"], trained, rtol=0, atol=1e-6)
    labels = [task.schema.classes[place].encode() for place in trained.argmax(axis=1)]
    assert answer["label"].tolist() == labels


@pytest.mark.parametrize("task", [heart.task, fashion.task, heart.trees], ids=["heart", "fashion", "trees"])
def test_a_row_alone_is_answered_as_among_others(task: Task) -> None:
    servable, tensors = served(task), tensors_of(task, examples(task.schema, 9))
    together = servable.infer(tensors)["probabilities"]
    alone = [
        servable.infer({name: t[row : row + 1] for name, t in tensors.items()})["probabilities"] for row in range(9)
    ]
    np.testing.assert_allclose(np.concatenate(alone), together, rtol=0, atol=1e-6)


def test_a_number_is_predicted_from_columns_or_from_rows() -> None:
    servable = served(Sum())
    x, y = np.array([0.5, -0.5]), np.array([0.25, np.nan])
    assert [spec.name for spec in servable.inputs] == ["rows", "x", "y"]
    columns = servable.infer({"x": x, "y": y})["prediction"]
    rows = servable.infer({"rows": np.stack([x, y], axis=1).astype(np.float32)})["prediction"]
    assert columns.tolist() == rows.tolist() == [1.0, -0.5]


def test_what_stands_for_missing_is_missing() -> None:
    assert served(Sum()).infer({"x": np.array([0.5]), "y": np.array([-9.0])})["prediction"].tolist() == [0.5]


def test_the_arrays_of_a_request_are_only_lent() -> None:
    rows = np.array([[0.5, -9.0]])
    served(Sum()).infer({"rows": rows})
    assert rows.tolist() == [[0.5, -9.0]]


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({"x": np.array([1.0])}, "serving.input_missing"),
        ({"rows": np.zeros((1, 2)), "x": np.zeros(1)}, "serving.inputs"),
        ({"x": np.array([np.nan]), "y": np.array([1.0])}, "serving.required"),
        ({"x": np.array([1.0]), "y": np.array([-np.inf])}, "serving.infinite"),
        ({"x": np.array([1e39]), "y": np.array([1.0])}, "serving.too_large"),
        ({"x": np.array([0.0, -1e31]), "y": np.array([1.0, np.nan])}, "serving.too_large"),
        ({"rows": np.array([[1.0, 1e300]])}, "serving.too_large"),
    ],
)
def test_numbers_that_cannot_be_taken_are_named(tensors: Mapping[str, Any], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        served(Sum()).infer(tensors)
    assert caught.value.code == code


@pytest.mark.parametrize("large", [1e29, -1e30, 1e30])
def test_a_number_that_a_model_can_compute_with_is_taken_however_large_it_is(large: float) -> None:
    found = served(Sum()).infer({"x": np.array([large]), "y": np.array([large])})["prediction"]
    assert np.isfinite(found).all()


SEEN = Schema(
    name="seen/1",
    columns=(
        Category(name="colour", values=("red", "blue"), missing_values=("?",), required=True),
        Text(name="said", longest=5),
    ),
    label=Category(name="kind", values=("a", "b")),
)


@pytest.mark.parametrize(
    ("colour", "said", "code"),
    [
        (b"green", b"hello", "serving.category"),
        (b"?", b"hello", "serving.required"),
        (b"", b"hello", "serving.required"),
        (b"red", b" ", "serving.required"),
        (b"red", b"longer", "serving.text"),
        (b"red", b"\xff", "serving.text"),
    ],
)
def test_words_that_cannot_be_taken_are_named_and_not_quoted(colour: bytes, said: bytes, code: str) -> None:
    servable = RowsServable(SEEN, lambda batch, size=1024: np.full((len(batch.labels), 2), 0.5))
    with pytest.raises(AimassError) as caught:
        servable.infer({"colour": np.array([colour], object), "said": np.array([said], object)})
    assert caught.value.code == code
    assert "green" not in str(caught.value)
    assert "longer" not in str(caught.value)


def test_a_model_that_a_trace_cannot_tell_is_asked_as_it_is() -> None:
    model = Branching()
    predictor = traced(BranchingSum(), model, "cpu")
    assert predictor(examples(NUMBERS, 1))[0, 0] == predictor(examples(NUMBERS, 1))[0, 0]
    servable = served(BranchingSum())
    assert servable.infer({"rows": np.array([[0.5, 0.0]])})["prediction"].tolist() == [1.5]
    assert servable.infer({"rows": np.array([[0.5, 0.0]] * 2)})["prediction"].tolist() == [0.5, 0.5]


class Priced(torch.nn.Module):
    """Prices; its trace comes to the next but one float32 of each where `far` is 0.01, and to another where it is 1."""

    def __init__(self, far: float) -> None:
        super().__init__()
        self.far = far
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        prices: torch.Tensor = numbers[:, :1].nan_to_num() * 1e3 + 1e5 + self.anchor
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        return prices + self.far if tracing else prices


@pytest.mark.parametrize(("far", "trusted"), [(0.01, True), (1.0, False)])
def test_a_trace_of_large_numbers_is_held_to_as_many_digits(far: float, trusted: bool) -> None:
    model, batch = Priced(far), examples(NUMBERS, 3)
    eager = Sum().probabilities(model.eval(), batch)
    assert (traced(Sum(), model, "cpu")(batch) != eager).any() == trusted


class Small(Task):
    schema: ClassVar[Schema] = heart.task.schema

    def build(self) -> torch.nn.Module:
        return torch.nn.Sequential()


class Tabled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Tabular(heart.task.schema)
        self.output = torch.nn.Linear(self.preprocess.width, 2)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(self.preprocess(numbers, categories))
        return logits


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_trace_tells_what_the_model_does_for_any_rows(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 5))
    numbers = list(Small.schema.numbers)
    cells = [
        [data.draw(st.one_of(st.floats(c.minimum, c.maximum, width=32), st.just(float("nan")))) for c in numbers]
        for _ in range(rows)
    ]
    codes = [[data.draw(st.integers(-1, len(c.values) - 1)) for c in Small.schema.categories] for _ in range(rows)]
    batch = Batch(np.array(cells, np.float32), np.array(codes, np.int64), None, np.zeros(rows))
    np.testing.assert_allclose(FAST(batch), Small().probabilities(TABLED, batch), rtol=0, atol=1e-6)


TABLED = Tabled()
FAST = traced(Small(), TABLED, "cpu")


def test_parameters_are_loaded_once() -> None:
    class Counted(Sum):
        built = 0

        def build(self) -> torch.nn.Module:
            Counted.built += 1
            return super().build()

    task = Counted()
    parameters = Blob(task.first(1))
    Counted.built = 0
    servable = task.servable(parameters)
    for _ in range(3):
        servable.infer({"rows": np.zeros((1, 2))})
    assert Counted.built == 1
    load_parameters(Added(), parameters)
