"""Tasks of trees: where they begin, what they refuse, and that they are measured and predict like any other."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from aimass.client import trainer
from aimass.client.shards import Shard, open_shard
from aimass.client.tasks.adult import task as adult_network
from aimass.client.tasks.adult import trees as adult
from aimass.client.tasks.heart import trees as heart
from aimass.proto.contribution import Metric
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import Category, Schema, ShardManifest
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.rows import read_table, require
from aimass.proto.task import auc, first_model
from aimass.proto.tensors import Blob
from aimass.proto.tree_task import TreeTask
from aimass.proto.trees import Ensemble, Objective, Tree, encode, feature_sizes
from tests.support.datasets import dataset


def hospital() -> Shard:
    with (dataset("heart") / "cleveland.parquet").open("rb") as file:
        manifest = ShardManifest(
            name="heart", data_schema="heart/1", uris=("x",), format="parquet", participant="a", salt="00" * 32
        )
        return open_shard(heart.schema, manifest, [file])[0]


def by_chest_pain() -> Blob:
    """One split of the heart's rows: chest pain without symptoms is the sign of disease."""
    sizes = feature_sizes(heart.schema)
    cp = len(heart.schema.numbers) + [column.name for column in heart.schema.categories].index("cp")
    other = np.array([1, 2, 3], np.int32)
    tree = Tree(
        feature=np.array([cp, -1, -1], np.int32),
        threshold=np.zeros(3, np.float32),
        default_left=np.array([True, False, False]),
        value=np.array([0, 1, -1], np.float32),
        gain=np.array([9, 0, 0], np.float32),
        cover=np.ones(3, np.float32),
        right_codes={0: other},
    )
    return Blob(encode(Ensemble(Objective.LOGISTIC, np.zeros(1, np.float32), sizes, (tree,))))


def test_without_a_tree_all_labels_are_as_likely() -> None:
    held_out = hospital().held_out
    assert (heart.scored(Blob(first_model(heart, 1)), held_out) == 0.5).all()


def test_trees_are_measured_like_any_other_model() -> None:
    shard = hospital()
    chest, sick = shard.held_out.categories[:, 1] == 0, shard.held_out.labels == 1
    made = trainer.evaluate(heart, shard, by_chest_pain(), EvaluateSettings())
    count = float(len(sick))
    assert made.metrics["accuracy"] == Metric(float((chest == sick).sum()), count)
    area = auc(chest.astype(float), sick)
    assert area is not None
    assert area > 0.7
    assert made.metrics["auc"].total == pytest.approx(area * count)
    right = np.where(chest == sick, 1 / (1 + np.exp(-1)), 1 - 1 / (1 + np.exp(-1)))
    assert made.metrics["loss"].total == pytest.approx(-np.log(right).sum())


def test_raw_rows_are_predicted() -> None:
    with (dataset("heart") / "cleveland.parquet").open("rb") as file:
        rows = require(read_table(heart.schema, [file], "parquet"))
    expected = np.where(rows.columns["cp"] <= 0, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)))
    np.testing.assert_allclose(heart.predict(by_chest_pain(), rows)[:, 1], expected)


def test_trees_of_other_columns_and_networks_are_refused() -> None:
    for blob in (first_model(adult, 1), first_model(Three(), 1)):
        with pytest.raises(BadInput) as caught:
            heart.scored(Blob(blob), hospital().held_out)
        assert caught.value.code == "task.parameters"
    with pytest.raises(BadInput) as caught:
        heart.scored(Blob(first_model(adult_network, 1)), hospital().held_out)
    assert caught.value.code == "trees.tensors"


class Three(TreeTask):
    """The heart's columns with a label of three values."""

    schema = Schema(name="three/1", columns=heart.schema.columns, label=Category(name="y", values=("a", "b", "c")))


def test_a_label_of_three_values_has_three_outputs() -> None:
    chances = Three().scored(Blob(first_model(Three(), 1)), hospital().held_out)
    np.testing.assert_allclose(chances, np.full((len(chances), 3), 1 / 3))


def test_gradient_steps_on_trees_are_refused_with_the_cure() -> None:
    settings = TrainSettings(batch_size=8, learning_rate=0.1, epochs=1)
    with pytest.raises(Refused) as caught:
        trainer.train(heart, hospital(), Blob(first_model(heart, 1)), b"", bytes(32), settings)
    assert caught.value.code == "task.no_network"
    assert "driver" in caught.value.cure


def test_trees_need_no_torch() -> None:
    code = (
        "import sys; from aimass.client.tasks.adult import trees; from aimass.proto.rows import Batch;"
        "from aimass.proto.tensors import Blob; import numpy as np;"
        "batch = Batch(np.zeros((2, 5), np.float32), np.zeros((2, 7), np.int64), None, np.zeros(2, np.int64));"
        "assert trees.scored(Blob(trees.first(1)), batch).shape == (2, 2); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
