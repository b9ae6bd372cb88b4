"""A model in ONNX says what the task says: held to it by onnxruntime, and refused where it does not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aimass.client.tasks.digits import Digits
from aimass.client.tasks.heart import Heart, HeartTrees
from aimass.client.tasks.nuclei import Nuclei
from aimass.proto.errors import AimassError, Refused
from aimass.proto.manifest import Category, Number, Schema, Text
from aimass.proto.rows import Batch
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.tree_scores import margins, predictions
from aimass.proto.trees import Ensemble, Objective
from aimass.server.registry.graph import generated
from aimass.server.registry.onnx_export import OPSET, onnx_file
from aimass.server.registry.onnx_trees import tree_model
from tests.support.drawn_trees import drawn_ensemble, drawn_rows, drawn_tree
from tests.support.reviews import small_reviews

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Line(Task):
    """A number from two numbers."""

    schema = Schema(
        name="line/1",
        columns=(Number(name="x", minimum=-1, maximum=1, required=True), Number(name="y", minimum=-1, maximum=1)),
        label=Number(name="z", minimum=-4000, maximum=4000),
    )

    def build(self) -> torch.nn.Module:
        return Sum()


class Sum(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Linear(2, 1)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.weights(torch.nan_to_num(numbers)) * 1000
        return said


class Branching(Line):
    """Its network looks at values to find its way."""

    def build(self) -> torch.nn.Module:
        class Two(Sum):
            def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
                return super().forward(numbers if numbers.sum() > 0 else -numbers, categories)

        return Two()


class Corrected(Line):
    """Computes beside its network."""

    def scored(self, parameters: Blob, batch: Batch, **options: Any) -> npt.NDArray[np.float64]:
        return super().scored(parameters, batch, **options) + 1.0


class Words(Task):
    """A text by the lengths of its words: the tensors are the task's own, as wide as the longest text."""

    schema = Schema(
        name="words/1",
        columns=(Text(name="text", longest=90),),
        label=Category(name="long", values=("no", "yes"), required=True),
    )

    def build(self) -> torch.nn.Module:
        class Lengths(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.said = torch.nn.Linear(1, 2)

            def forward(self, lengths: torch.Tensor) -> torch.Tensor:
                said: torch.Tensor = self.said(lengths.float().mean(dim=1, keepdim=True))
                return said

        return Lengths()

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        assert batch.texts is not None
        lengths = [[len(word) for word in text.split()] or [0] for text in batch.texts]
        widest = max(map(len, lengths))
        return (torch.tensor([row + [0] * (widest - len(row)) for row in lengths]),)


def session(data: bytes) -> Any:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_a_table_s_network_is_its_whole_way_from_cells_to_probabilities() -> None:
    task = Heart()
    parameters = Blob(task.first(3))
    data, parity = onnx_file(task, parameters, {"aimass.model": "heart@4"})
    assert parity.rows == 256
    assert parity.worst <= parity.tolerance == 1e-5
    run = session(data)
    rows = synthetic_rows(task.schema, 7, 99)
    said = run.run(["probabilities"], {"numbers": rows.numbers, "categories": rows.categories})[0]
    assert np.isnan(rows.numbers).any()
    np.testing.assert_allclose(said, task.scored(parameters, rows), atol=1e-6)
    meta = run.get_modelmeta().custom_metadata_map
    assert meta["aimass.model"] == "heart@4"
    assert [column["name"] for column in json.loads(meta["aimass.schema"])["columns"]][:2] == ["age", "sex"]


def test_a_file_states_its_opset_and_names_no_folder_of_this_machine() -> None:
    data, _ = onnx_file(Digits(), Blob(Digits().first(1)), {})
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model)
    assert {opset.domain: opset.version for opset in model.opset_import}[""] == OPSET
    assert [node.name for node in model.graph.input] == ["images"]
    assert __file__.partition("/tests/")[0].encode() not in data
    assert b"aimass/client" not in data


def test_a_number_is_predicted_within_its_own_size() -> None:
    task = Line()
    parameters = Blob(task.first(1))
    data, parity = onnx_file(task, parameters, {})
    assert parity.tolerance > 1e-5
    rows = synthetic_rows(task.schema, 5, 1)
    said = session(data).run(["prediction"], {"numbers": rows.numbers})[0]
    np.testing.assert_allclose(said, task.scored(parameters, rows), rtol=1e-5)


def test_tensors_of_a_task_s_own_making_may_be_of_any_width() -> None:
    task = Words()
    parameters = Blob(task.first(1))
    data, _ = onnx_file(task, parameters, {})
    rows = Batch(
        np.zeros((2, 0), np.float32),
        np.zeros((2, 0), np.int64),
        None,
        np.zeros(2, np.int64),
        np.array(["one two three four five six seven", "a"], object),
    )
    said = session(data).run(None, {"lengths": task.inputs(rows)[0].numpy()})[0]
    np.testing.assert_allclose(said, task.scored(parameters, rows), atol=1e-6)


@pytest.mark.parametrize("objective", list(Objective))
def test_trees_come_to_the_same_leaves_by_numbers_sets_and_missing_values(objective: Objective) -> None:
    """Sets of more than 32 categories too, which a runtime may hold in another way."""
    for seed in range(10):
        drawn = drawn_ensemble(seed, objective, trees=12, depth=5)
        sizes = np.array([0, 0, 41, 70, 3, 1], np.int32)
        chance = np.random.default_rng(seed)
        more = tuple(drawn_tree(chance, sizes, 5, tree.output) for tree in drawn.trees)
        ensemble = drawn if seed % 2 else Ensemble(objective, drawn.base, sizes, more)
        rows = drawn_rows(seed + 100, ensemble.sizes, 300)
        model = tree_model(ensemble, OPSET)
        onnx.checker.check_model(model)
        said = session(model.SerializeToString()).run(None, {"features": rows})[0]
        np.testing.assert_allclose(said, predictions(objective, margins(ensemble, rows)), rtol=1e-5, atol=1e-6)


def test_a_task_of_trees_is_exported_before_its_first_tree_too() -> None:
    data, parity = onnx_file(HeartTrees(), Blob(HeartTrees().first(0)), {})
    assert parity.worst == 0.0
    assert [node.name for node in session(data).get_inputs()] == ["features"]


@pytest.mark.parametrize(
    ("task", "code"),
    [(Branching(), "export.not_traceable"), (Corrected(), "export.parity")],
    ids=["a network that branches", "a task that computes beside its network"],
)
def test_what_cannot_be_exported_is_refused_by_name(task: Task, code: str) -> None:
    with pytest.raises(Refused) as refused:
        onnx_file(task, Blob(task.first(1)), {})
    assert refused.value.code == code


def test_parameters_of_another_task_are_refused() -> None:
    with pytest.raises(AimassError) as refused:
        onnx_file(Heart(), Blob(Digits().first(1)), {})
    assert refused.value.code == "task.parameters"


@pytest.mark.slow
def test_texts_are_exported_behind_their_tokens() -> None:
    task = small_reviews()
    parameters = Blob(task.first(1))
    run = session(onnx_file(task, parameters, {})[0])
    for count in (1, 9):
        rows = generated(task, count, seed=7)
        (ids,) = task.inputs(rows)
        np.testing.assert_allclose(run.run(None, {"ids": ids.numpy()})[0], task.scored(parameters, rows), atol=1e-6)


def test_a_segmentation_says_the_same_of_each_pixel() -> None:
    parameters = Blob(Nuclei().first(3))
    data, parity = onnx_file(Nuclei(), parameters, {})
    assert parity.worst <= parity.tolerance
    rows = synthetic_rows(Nuclei.schema, 3, 99)
    assert rows.images is not None
    said = session(data).run(["probabilities"], {"images": rows.images[:, None]})[0]
    np.testing.assert_allclose(said, Nuclei().scored(parameters, rows), atol=1e-5)
