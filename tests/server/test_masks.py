"""Models of masks at the operator's: dealt to shards, tried by smoke inputs, served to people, never watched as labels."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from aimass.client.tasks.nuclei import task
from aimass.proto.column_statistics import MaskStatistics, merge
from aimass.proto.data_sets import read_rule
from aimass.proto.errors import BadInput
from aimass.proto.manifest import UNLABELLED, Image, Mask, Schema
from aimass.proto.registry.smoke import smoke_inputs
from aimass.proto.rows import Table, read_table
from aimass.proto.sharding import read_split, write_shards
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.server.datasets.dealing import dealer_of
from aimass.server.datasets.evolution import refusals
from aimass.server.datasets.shard_bytes import parquet_bytes, row_bytes, statistics_of
from aimass.server.serving.dispatch.requests import Answer
from aimass.server.serving.http.features import Features
from aimass.server.serving.http.predictions import prediction
from aimass.server.serving.watching.answers import answers_of, fine_cells, kinds_of
from aimass.server.serving.watching.smoke import smoke_tensors, what_is_wrong


def schema(*values: str, name: str = "things/1", shape: tuple[int, int] = (2, 3)) -> Schema:
    mask = Mask(name="mask", shape=shape, values=values or ("ground", "thing"))
    return Schema(name=name, columns=(Image(name="image", shape=shape),), label=mask)


SCHEMA = schema()
MASKS = np.array([[[0, 1, 1], [0, 0, UNLABELLED]], [[0, 0, 0], [0, 1, 0]]], np.uint8)
TABLE = Table(SCHEMA, {"image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "mask": MASKS}, ())


def test_a_shard_of_masks_is_read_as_it_was_written_and_counts_pixels() -> None:
    again = read_table(SCHEMA, [io.BytesIO(parquet_bytes(TABLE, None))], "parquet")
    np.testing.assert_array_equal(again.columns["mask"], MASKS)
    assert again.findings == ()
    assert row_bytes(TABLE).tolist() == [12, 12]
    found = statistics_of(TABLE)[1]
    assert found == MaskStatistics(column="mask", present=2, unlabelled=1, pixels={"ground": 8, "thing": 3})
    assert merge(found, found) == MaskStatistics(
        column="mask", present=4, unlabelled=2, pixels={"ground": 16, "thing": 6}
    )


def test_rows_are_not_dealt_by_what_their_pixels_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no category"):
        dealer_of(read_rule("stratified:2", 0), SCHEMA)
    parquet.write_table(pa.table({"image": [bytes(6)] * 4, "mask": [bytes(6)] * 4}), tmp_path / "a.parquet")
    for rule in ("dirichlet:0.3", "labels:1", "shards:2"):
        with pytest.raises(BadInput, match="label of pixels"):
            write_shards(SCHEMA, [tmp_path / "a.parquet"], read_split(rule, 2, 0, 1), tmp_path / "s")


def test_masks_may_gain_classes_at_the_end_and_change_nothing_else() -> None:
    assert list(refusals(SCHEMA, schema("ground", "thing", "more", name="things/2"))) == []
    assert list(refusals(SCHEMA, schema("thing", "ground", name="things/2"))) == [
        "values of mask are gone, or in another order"
    ]
    assert "mask has another shape" in list(refusals(SCHEMA, schema(name="things/2", shape=(3, 2))))


def test_smoke_inputs_are_held_against_what_is_served() -> None:
    blob = Blob(first_model(task, 1))
    smoke, servable = smoke_inputs(task, blob, rows=2), task.servable(blob)
    answer = servable.infer(smoke_tensors(smoke, servable.inputs))
    assert what_is_wrong(smoke, answer) == ""
    assert len(smoke.expected[0]) < 1_000
    other = task.servable(Blob(first_model(task, 2))).infer(smoke_tensors(smoke, servable.inputs))
    assert "came to" in what_is_wrong(smoke, other)


def test_people_are_told_what_each_pixel_is_and_how_much_there_is_of_it() -> None:
    servable = task.servable(Blob(first_model(task, 1)))
    tensors = servable.infer({"image": np.zeros((1, 56, 56), np.uint8)})
    features = Features({}, 1, single=True, warnings={})
    told = prediction(Answer(tensors, "nuclei", 1, 0.0, 0.0), features, {spec.name: spec for spec in servable.outputs})
    mask = np.frombuffer(base64.b64decode(told["mask"]), np.uint8).reshape(told["shape"])
    np.testing.assert_array_equal(mask, tensors["mask"][0])
    assert told["shares"] == {"ground": float((mask == 0).mean()), "nucleus": float((mask == 1).mean())}
    assert (told["model"], told["values"]) == ("nuclei", ["ground", "nucleus"])


def test_answers_about_pixels_are_not_watched() -> None:
    answers = [{"probabilities": np.full((1, 2, 2, 3), 0.5), "mask": MASKS[:1]}]
    assert (fine_cells(SCHEMA), kinds_of(SCHEMA, answers), dict(answers_of(answers))) == ((), (), {})
