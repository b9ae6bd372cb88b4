"""A label that is a number: read, split, dealt, learnt, measured and surveyed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from aimass.client import trainer
from aimass.client.private_checks import private_findings
from aimass.client.private_trainer import PrivateTrainer
from aimass.client.shards import Shard, open_shard
from aimass.client.surveys import surveyed
from aimass.client.synthetic import dealt, learnable_rows
from aimass.proto.checks import State
from aimass.proto.contribution import Metric
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import Category, Number, Schema, ShardManifest
from aimass.proto.plan import EvaluateSettings, MetricNoise, TrainSettings
from aimass.proto.rows import Table, check, held_out_mask, read_table, require
from aimass.proto.sharding import Split, write_shards
from aimass.proto.statistics import Counts
from aimass.proto.statistics_text import table_of
from aimass.proto.surveys import Survey, SurveyOptions
from aimass.proto.task import Task, first_model
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.tree_task import TreeTask
from aimass.proto.trees import Ensemble, Objective, encode, feature_sizes
from aimass.proto.values import canonical_json, decode_json
from aimass.server.drivers.tables import found

SCHEMA = Schema(
    name="stay/1",
    columns=(Number(name="age", minimum=0, maximum=100), Category(name="ward", values=("a", "b"))),
    label=Number(name="days", minimum=0, maximum=50),
)


class Stay(Task):
    """Days in hospital from age, by a line."""

    schema = SCHEMA

    def build(self) -> torch.nn.Module:
        return Line()


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = torch.nn.Linear(1, 1)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        days: torch.Tensor = self.output(torch.nan_to_num(numbers) / 100)
        return days


class StayTrees(TreeTask):
    schema = SCHEMA


def csv(count: int = 40, label: str = "") -> bytes:
    rows = [f"{30 + row},{'ab'[row % 2]},{label or row % 7 + 0.5}" for row in range(count)]
    return "\n".join(["age,ward,days", *rows, ""]).encode()


def table(data: bytes) -> Table:
    return read_table(SCHEMA, [io.BytesIO(data)], "csv")


def shard(held_out: float = 0.25) -> Shard:
    manifest = ShardManifest(
        name="stay", data_schema="stay/1", uris=("x",), format="csv", participant="a", salt="00" * 32, held_out=held_out
    )
    return open_shard(SCHEMA, manifest, [io.BytesIO(csv())])[0]


def test_numbers_are_read_as_labels_and_a_row_without_one_is_refused() -> None:
    assert require(table(csv(3))).columns["days"].tolist() == [0.5, 1.5, 2.5]
    assert check(table(csv(3))).labels == {}
    with pytest.raises(BadInput, match="1 rows have no label"):
        require(table(b"age,ward,days\n30,a,\n"))
    with pytest.raises(BadInput, match="lies outside 0 to 50"):
        require(table(csv(1, label="51")))


def test_the_schema_goes_through_json_and_names_no_classes() -> None:
    assert decode_json(Schema, canonical_json(SCHEMA), "it") == SCHEMA
    assert SCHEMA.classes == ()


def test_the_share_held_out_is_of_all_rows_whatever_their_numbers() -> None:
    assert held_out_mask(table(csv(41)), b"salt", 0.25).sum() == 10


def test_a_network_learns_a_number_and_is_measured_by_its_errors() -> None:
    start, here = Blob(first_model(Stay(), 1)), shard()
    made, _ = trainer.train(
        Stay(), here, start, b"", bytes(32), TrainSettings(batch_size=8, learning_rate=0.3, epochs=40)
    )
    update = made.groups["update"].tensors
    moved = Blob(encode_numpy({name: old + update[name] for name, old in start.arrays().items()}))
    before, after = (trainer.evaluate(Stay(), here, model, EvaluateSettings()).metrics for model in (start, moved))
    assert after["loss"].total < 0.7 * before["loss"].total
    weight, bias = moved.numpy("output.weight")[0, 0], moved.numpy("output.bias")[0]
    errors = weight * here.held_out.numbers[:, 0] / 100 + bias - here.held_out.labels
    assert after["loss"].total == pytest.approx(float((errors**2).sum()), rel=1e-5)
    assert after["absolute_error"].total == pytest.approx(float(np.abs(errors).sum()), rel=1e-5)
    assert after["loss"].weight == len(here.held_out.labels) == 10


def test_trees_predict_a_number_by_squared_error() -> None:
    assert StayTrees().empty().objective is Objective.SQUARED_ERROR
    three = Blob(encode(Ensemble(Objective.SQUARED_ERROR, np.array([3], np.float32), feature_sizes(SCHEMA))))
    measured = trainer.evaluate(StayTrees(), shard(), three, EvaluateSettings()).metrics
    errors = 3 - shard().held_out.labels
    assert measured["loss"] == Metric(float((errors**2).sum()), 10.0)
    assert StayTrees().predict(three, require(table(csv(4)))).tolist() == [[3.0]] * 4


def test_a_rule_that_deals_by_labels_needs_a_category(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_bytes(csv())
    made = write_shards(SCHEMA, [source], Split(rule="shards", argument="1", partners=2), tmp_path / "sorted")
    assert [(one.rows, one.labels) for one in made.shards] == [(20, {}), (20, {})]
    for rule, argument in (("dirichlet", "0.3"), ("labels", "1")):
        with pytest.raises(BadInput) as caught:
            write_shards(SCHEMA, [source], Split(rule=rule, argument=argument, partners=2), tmp_path / rule)  # type: ignore[arg-type]
        assert caught.value.code == "partition.split"


@pytest.mark.parametrize("name", ["counts", "histogram"])
def test_surveys_tell_of_columns_and_not_of_the_label(name: str) -> None:
    survey = Survey(name=name, schema=SCHEMA, options=SurveyOptions())
    sums = surveyed(survey, shard(0.0).train).groups[name].tensors
    assert {key: ("F64", value.shape) for key, value in sums.items()} == survey.shapes
    told = found(survey, sums, 0.0)
    assert not isinstance(told, Counts) or told.columns[0].present == 40
    assert [row["column"] for row in table_of(told)] == ["age", "ward"]


def test_the_gradients_of_single_rows_are_right_so_that_a_number_can_be_learnt_privately() -> None:
    assert [finding.state for finding in private_findings(Stay())] == [State.OK]


def test_metrics_with_noise_are_for_categories() -> None:
    with pytest.raises(Refused) as caught:
        PrivateTrainer(Stay(), "cpu").evaluate(shard(), Blob(first_model(Stay(), 1)), MetricNoise(noise_multiplier=1.0))
    assert caught.value.code == "private.metrics"


def test_rows_of_chance_have_numbers_that_can_be_learnt() -> None:
    batch = learnable_rows(SCHEMA, 4000, 1)
    assert batch.labels.min() >= 0
    assert batch.labels.max() <= 50
    known = ~np.isnan(batch.numbers[:, 0])
    wards = batch.categories[known, 0] == 1
    design = np.stack([batch.numbers[known, 0], wards, batch.categories[known, 0] == 0, np.ones(known.sum())], axis=1)
    _, residual, *_ = np.linalg.lstsq(design, batch.labels[known], rcond=None)
    assert 1 - residual[0] / ((batch.labels[known] - batch.labels[known].mean()) ** 2).sum() > 0.5
    assert len(dealt(batch, 4, 0.2, 1)) == 4
