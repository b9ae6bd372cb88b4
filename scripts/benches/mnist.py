"""MNIST as the benchmarks read it: the first rows of a part, through the partners' own reader."""

from __future__ import annotations

import numpy as np

from aimass.client.data_get import cache_folder, get
from aimass.client.shards import Shard
from aimass.client.tasks.mnist import task
from aimass.proto.rows import Batch, encode, read_table, require

__all__ = ["ALL", "TEST", "mnist_batch", "mnist_shard"]

ALL = 60_000
TEST = 10_000


def mnist_shard(rows: int) -> Shard:
    """The first rows of the training set, and the test set held out."""
    return Shard("a", mnist_batch("train", rows), mnist_batch("test", TEST))


def mnist_batch(part: str, rows: int) -> Batch:
    """The first rows of "train" or "test"."""
    with (get("mnist", cache_folder())[0] / f"{part}.parquet").open("rb") as file:
        table = require(read_table(task.schema, [file], "parquet"))
    return encode(table.take(np.arange(table.rows) < rows))
