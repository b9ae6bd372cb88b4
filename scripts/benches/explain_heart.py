"""The demo's heart model, trained in this process, with the rows that hospitals trained on and those held out."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aimass.client.data_get import cache_folder, get
from aimass.client.shards import open_shard
from aimass.explain import FunctionModel, Rows, model_of_function, model_of_task
from aimass.explain.rows import rows_of_table
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import Cohort, read_plan_draft
from aimass.proto.rows import held_out_mask, read_table
from aimass.proto.storage import FileBlobs
from aimass.proto.task import Task, first_model, load, locate
from aimass.proto.tensors import Blob
from aimass.server.simulate import simulate
from scripts.demos.explaining import HELD_OUT, salt_of
from scripts.demos.plans import PLANS

__all__ = ["HOSPITALS", "HeartStage", "heart_stage"]

HOSPITALS: Final = ("cleveland", "hungarian", "long-beach", "switzerland")
_SPLIT: Final = 11
_SEED: Final = 7
_ROUNDS: Final = 20


@dataclasses.dataclass(frozen=True)
class HeartStage:
    """The federated `model`, a logistic `regression` on the pooled training rows, and the rows of both kinds."""

    model: FunctionModel
    regression: FunctionModel
    held_out: Rows
    train: Rows


@functools.cache
def heart_stage() -> HeartStage:
    """Twenty rounds over four hospitals, seconds."""
    task = load(locate("heart"))
    held_out, train = _rows(task, held_out=True), _rows(task, held_out=False)
    parameters = Blob(_trained(task))
    model = model_of_task(task, parameters, name="heart, federated", digest=parameters.digest)
    return HeartStage(model, _regression(train), held_out, train)


def _path(hospital: str) -> Path:
    return get("heart", cache_folder())[0] / f"{hospital}.parquet"


def _trained(task: Task) -> bytes:
    """The demo's plan in plain sums, to the bits of its last model."""
    shards = []
    for name in HOSPITALS:
        manifest = ShardManifest(
            name="heart", data_schema="heart/1", uris=(str(_path(name)),), format="parquet", participant=name,
            salt=salt_of(_SPLIT, name), held_out=HELD_OUT,
        )  # fmt: skip
        with _path(name).open("rb") as file:
            shards.append(open_shard(task.schema, manifest, [file])[0])
    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobs(Path(folder), UNINTERRUPTED)
        first = blobs.put([first_model(task, _SEED)])
        plan = read_plan_draft(PLANS["none"].format(seed=_SEED, rounds=_ROUNDS)).complete("0" * 64, first)
        plain = msgspec.structs.replace(plan, cohort=Cohort(quorum=1), secure=None)
        return bytes(blobs.open(simulate(plain, task, shards, blobs).model))


def _rows(task: Task, *, held_out: bool) -> Rows:
    parts = []
    for name in HOSPITALS:
        with _path(name).open("rb") as file:
            table = read_table(task.schema, [file], "parquet")
        mask = held_out_mask(table, bytes.fromhex(salt_of(_SPLIT, name)), HELD_OUT)
        parts.append(rows_of_table(table.take(mask if held_out else ~mask), name))
    labels: list[Any] = [part.labels for part in parts]
    return dataclasses.replace(
        parts[0],
        values=np.concatenate([part.values for part in parts]),
        labels=np.concatenate(labels),
        name="four hospitals",
        held_out=held_out,
        beside={"partner": np.concatenate([np.full(len(part), part.name, object) for part in parts])},
    )


def _regression(train: Rows) -> FunctionModel:
    """Of the same columns, one-hot, what is missing by the median or as a value of its own."""

    def coded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        columns = [
            cells[:, None] if feature.kind == "number" else cells[:, None] == np.arange(len(feature.values))
            for feature, cells in zip(train.features, values.T, strict=True)
        ]
        return np.concatenate(columns, axis=1).astype(np.float64)

    fitted = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(max_iter=5_000)
    ).fit(coded(train.values), train.labels)
    return model_of_function(
        lambda values: fitted.predict_proba(coded(values)), train.features, train.classes, name="logistic regression"
    )
