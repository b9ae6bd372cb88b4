"""The four hospitals' rows, apart and pooled as only a test may, and a small network that predicts for all of them."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimass.explain.models import FunctionModel, model_of_task
from aimass.explain.rows import Rows, rows_of_table
from aimass.proto.analysis import AtPartner
from aimass.proto.rows import read_table, row_hashes
from aimass.proto.task import load, locate
from aimass.proto.tensors import Blob, encode_torch
from tests.support.datasets import dataset

__all__ = ["HOSPITALS", "TASK", "Hospital", "at", "heart", "heart_blob", "hospitals", "pooled"]

HOSPITALS = ("cleveland", "hungarian", "switzerland", "long-beach")
TASK = load(locate("heart"))


@dataclasses.dataclass(frozen=True)
class Hospital:
    """Its rows, and uint64 [rows] keys by what stands in them."""

    rows: Rows
    keys: npt.NDArray[np.uint64]


@functools.cache
def hospitals() -> tuple[Hospital, ...]:
    """Of unequal size, base rate and missingness."""
    return tuple(map(_hospital, HOSPITALS))


def _hospital(name: str) -> Hospital:
    with (dataset("heart") / f"{name}.parquet").open("rb") as file:
        table = read_table(TASK.schema, [file], "parquet")
    keys = np.array([int.from_bytes(one[:8], "big") for one in row_hashes(table)], np.uint64)
    rows = rows_of_table(table, name, held_out=True)
    # What a partner has are the numbers of a batch, float32.
    numbers = np.where(np.isnan(rows.values), np.nan, rows.values.astype(np.float32).astype(np.float64))
    return Hospital(dataclasses.replace(rows, values=numbers), keys)


def pooled(parts: tuple[Hospital, ...]) -> Hospital:
    """All rows in one table."""
    first = parts[0].rows
    labels = np.concatenate([part.rows.need_labels() for part in parts])
    values = np.concatenate([part.rows.values for part in parts])
    rows = dataclasses.replace(first, values=values, labels=labels, name="pooled")
    return Hospital(rows, np.concatenate([part.keys for part in parts]))


@functools.cache
def heart() -> FunctionModel:
    """The model in terms of this library."""
    return model_of_task(TASK, heart_blob(), name="heart", digest=heart_blob().digest)


def at(parts: tuple[Hospital, ...]) -> tuple[AtPartner, ...]:
    """What an analysis has at each of these."""
    return tuple(AtPartner.of(TASK, heart_blob(), part.rows.batch()) for part in parts)


@functools.cache
def heart_blob() -> Blob:
    """The heart task's own network after some steps over everybody's rows, on one seed."""
    torch.manual_seed(zlib.crc32(b"heart"))
    network: Any = TASK.build()
    batch = pooled(hospitals()).rows.batch()
    numbers, categories = torch.from_numpy(batch.numbers), torch.from_numpy(batch.categories)
    layer = network.preprocess
    z = (numbers.double() - layer.shift) / layer.span
    layer.mean.copy_(torch.nanmean(z, dim=0))
    layer.scale.copy_(torch.sqrt(torch.nanmean((z - layer.mean) ** 2, dim=0)))
    steps = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(40):
        steps.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(numbers, categories), torch.from_numpy(batch.labels))
        torch.autograd.backward(loss)
        steps.step()
    return Blob(encode_torch(network.state_dict()))
