"""Labels of pixels on their way: from a file through shard, training, private training, serving and the registry."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from aimass.client.private_checks import private_findings
from aimass.client.shards import make_shard
from aimass.client.synthetic import dealt, learnable_rows
from aimass.client.tasks.nuclei import Nuclei
from aimass.client.trainer import evaluate, train
from aimass.proto.checks import State
from aimass.proto.errors import BadInput
from aimass.proto.manifest import UNLABELLED, Image, Mask, Schema, ShardManifest
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.registry.smoke import smoke_inputs, table_of, worst_difference
from aimass.proto.rows import check, held_out_mask, read_table, require
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob, encode_numpy


class Small(Nuclei):
    """The shipped task over images of eight by eight."""

    schema = Schema(
        name="small-nuclei/1",
        columns=(Image(name="image", shape=(8, 8)),),
        label=Mask(name="mask", shape=(8, 8), values=("ground", "nucleus")),
    )


TASK = Small()
MANIFEST = ShardManifest(
    name="tiles", data_schema="small-nuclei/1", uris=("t",), format="parquet", participant="p", salt="00" * 32
)


def file_of(masks: list[Any]) -> io.BytesIO:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"image": [bytes([row] * 64) for row in range(len(masks))], "mask": masks}), sink)
    return io.BytesIO(sink.getvalue().to_pybytes())


def test_masks_are_read_whole_and_each_that_does_not_fit_is_found_by_its_row() -> None:
    good = bytes([0, 1, UNLABELLED, 0] * 16)
    assert read_table(TASK.schema, [file_of([good] * 3)], "parquet").findings == ()
    table = read_table(TASK.schema, [file_of([good, bytes([2] * 64), None, b"short"])], "parquet")
    assert [(found.row, found.what) for found in table.findings] == [
        (1, "has pixels that are none of the 2 values of the schema"),
        (3, "is not 64 bytes"),
    ]
    assert table.columns["mask"][0].tobytes() == good
    assert (table.columns["mask"][1:] == UNLABELLED).all()
    report = check(table)
    assert (report.labels, report.missing) == ({"ground": 1, "nucleus": 1}, {"mask": 3})
    with pytest.raises(BadInput, match="3 rows have no label"):
        require(table)


def test_a_share_of_the_images_is_held_out_whatever_is_on_them() -> None:
    table = read_table(TASK.schema, [file_of([bytes([row % 2] * 64) for row in range(20)])], "parquet")
    assert held_out_mask(table, bytes(32), 0.25).sum() == 5
    shard = make_shard(table, MANIFEST)
    assert shard.train.labels.shape == (16, 8, 8)
    assert shard.held_out.labels.dtype == np.uint8


def test_training_learns_which_pixels_belong_to_a_nucleus() -> None:
    (shard,) = dealt(learnable_rows(TASK.schema, 40, 1), 1, 0.25, 1)
    start = Blob(first_model(TASK, 1))
    settings = TrainSettings(optimizer="adam", learning_rate=0.01, batch_size=8, epochs=6)
    made, _ = train(TASK, shard, start, b"", bytes(32), settings)
    update = made.groups["update"].tensors
    moved = Blob(encode_numpy({name: old + update[name] for name, old in start.arrays().items()}))
    before, after = (evaluate(TASK, shard, model, EvaluateSettings()).metrics for model in (start, moved))
    assert after["dice"].total / after["dice"].weight > 0.95
    assert after["loss"].total < 0.5 * before["loss"].total


def test_a_segmentation_can_be_trained_privately() -> None:
    assert [finding.state for finding in private_findings(TASK)] == [State.OK]


def test_the_servable_answers_probabilities_and_what_each_pixel_is() -> None:
    blob = Blob(first_model(TASK, 2))
    servable = TASK.servable(blob)
    found = servable.infer({"image": np.arange(192, dtype=np.uint8).reshape(3, 8, 8)})
    assert {spec.name: spec.shape for spec in servable.outputs} == {"probabilities": (-1, 2, 8, 8), "mask": (-1, 8, 8)}
    assert all(spec.admits(found[spec.name]) for spec in servable.outputs)
    np.testing.assert_array_equal(found["mask"], found["probabilities"].argmax(axis=1))
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1)


def test_smoke_inputs_of_a_segmentation_tell_another_model() -> None:
    blob = Blob(first_model(TASK, 2))
    smoke = smoke_inputs(TASK, blob, rows=2)
    table = table_of(TASK.schema, smoke.columns)
    assert worst_difference(smoke, TASK.predict(blob, table)) <= smoke.tolerance
    assert worst_difference(smoke, TASK.predict(Blob(first_model(TASK, 3)), table)) > smoke.tolerance


def test_a_schema_of_masks_is_written_and_read_as_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(TASK.schema), type=Schema) == TASK.schema
