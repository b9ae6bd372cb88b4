"""The network behind a task's model of tables, for views that look into it by gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Rows, features_of
from aimass.proto.manifest import Schema
from aimass.proto.task import Task
from aimass.proto.tensors import Blob

if TYPE_CHECKING:
    import torch

__all__ = ["TableNetwork", "table_network_of"]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class TableNetwork:
    """`module` in evaluation mode gives logits [n, labels], or a number [n, 1], of what `inputs` makes of rows.

    `layer` is the part of it that turns these into numbers alone, of which `columns` [features] are each feature's.
    """

    module: torch.nn.Module
    layer: torch.nn.Module
    inputs: Callable[[Floats], tuple[torch.Tensor, ...]]
    columns: tuple[tuple[int, ...], ...]

    def columns_of(self, features: Sequence[int]) -> list[int]:
        """Of the layer, those of several features."""
        return [column for feature in features for column in self.columns[feature]]


def table_network_of(task: Task, parameters: Blob) -> TableNetwork | None:
    """None where the task's model is no network, or one without a `preprocess` layer of `Tabular`."""
    if type(task).predictor is not Task.predictor:
        return None
    from aimass.proto.preprocess import Tabular  # noqa: PLC0415  (only who has a network loads torch)

    module, features = task.network(parameters), features_of(task.schema)
    layer = getattr(module, "preprocess", None)
    if not isinstance(layer, Tabular):
        return None
    return TableNetwork(
        module, layer, lambda values: task.inputs(Rows(features, values).batch()), _columns(task.schema)
    )


def _columns(schema: Schema) -> tuple[tuple[int, ...], ...]:
    """As `Tabular` lays them out: numbers, their indicators of missing, each category's code with its indicator."""
    count = len(schema.numbers)
    found: dict[str, tuple[int, ...]] = {
        column.name: (place, count + place) for place, column in enumerate(schema.numbers)
    }
    start = 2 * count
    for column in schema.categories:
        found[column.name] = tuple(range(start, start + len(column.values) + 1))
        start += len(column.values) + 1
    return tuple(found[column.name] for column in schema.columns)
