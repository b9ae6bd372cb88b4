"""The built-in analyses of a participant's training rows: sums for a driver, plain or with noise."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.client.shards import Shard
from aimass.privacy.dp.gaussian import noised
from aimass.privacy.dp.private_terms import STATISTICS, analysis_noise
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.plan import AnalysisNoise
from aimass.proto.tensors import Blob

__all__ = ["analyse", "analyse_privately"]

Floats = npt.NDArray[np.float64]
_PARTS: Final = 1 << 20
"""Noised sums are of multiples of 1 / _PARTS: to 2^33 rows float64 adds them exactly, in any order."""


def analyse(name: str, shard: Shard, parameters: Blob) -> Contribution:
    """`statistics`: count, sum and sum of squares of z = (x - shift) / span by numeric column.

    float64 [numbers] each; z lies in [-1, 1] because the schema's bounds are public, so the sums are well conditioned.
    Raises `NotFound` for another name, a survey's too, and `BadInput` for a model of other columns.
    """
    z, present = _standardised(name, shard, parameters)
    z = np.where(present, z, 0.0)
    return _contribution(name, np.stack([present.sum(axis=0), z.sum(axis=0), (z * z).sum(axis=0)]))


def analyse_privately(
    name: str, shard: Shard, parameters: Blob, setting: AnalysisNoise, stream: NoiseStream
) -> Contribution:
    """The same sums with fresh noise; raises as `analyse` does.

    What a row adds, (present, z, z^2) by column, has an L2 norm of sqrt(3 columns) at most: z is cut to [-1, 1],
    whatever shift and span the server's model states.
    """
    z, present = _standardised(name, shard, parameters)
    z = _in_parts(np.clip(np.where(present, z, 0.0), -1.0, 1.0))
    sums = np.stack([present.sum(axis=0), z.sum(axis=0), _in_parts(z * z).sum(axis=0)])
    return _contribution(name, noised(analysis_noise(setting, z.shape[1]), sums, stream))


def _standardised(name: str, shard: Shard, parameters: Blob) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """z [rows, numbers], and where it is a number."""
    if name != STATISTICS:  # sums under a survey's name would leave by that survey's approval
        raise NotFound("no such analysis", code="trainer.analysis", value=name, limit=STATISTICS)
    numbers = shard.train.numbers.astype(np.float64)
    shift, span = (parameters.numpy(f"preprocess.{part}") for part in ("shift", "span"))
    for found in (shift, span):
        if found.shape != numbers.shape[1:]:  # a model of more dimensions would make sums of fewer rows
            raise BadInput(
                "the model standardises other columns than the data has",
                code="trainer.columns",
                value=str(found.shape),
                limit=str(numbers.shape[1:]),
            )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # what is no number counts as absent
        z: Floats = (numbers - shift) / span
    return z, ~np.isnan(z)


def _in_parts(values: Floats) -> Floats:
    return np.rint(values * _PARTS) / _PARTS


def _contribution(name: str, sums: npt.NDArray[Any]) -> Contribution:
    count, total, squares = sums.astype(np.float64)
    return Contribution({name: Group(1.0, {"count": count, "sum": total, "sum_of_squares": squares})}, {}, {})
