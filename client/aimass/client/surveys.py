"""What surveys find in a partner's training rows: counts by cell and sums of powers, plain or with noise.

Pure, over arrays. With noise every number of a survey has Gaussian noise of `noise_multiplier` times the L2 norm that
one row can add, `Survey.row_norm`; the model that a server sends has no part in it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.gaussian import noised
from aimass.privacy.dp.private_terms import survey_noise
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.plan import AnalysisNoise
from aimass.proto.rows import Batch
from aimass.proto.surveys import MOMENTS, Survey, bins_of, edges
from aimass.proto.tensors import Blob

__all__ = ["surveyed", "surveyed_privately"]

Cells = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_PARTS: Final = 1 << 20
"""Sums under noise are of multiples of 1 / _PARTS: to 2^33 rows float64 adds them exactly, in any order."""


def surveyed(survey: Survey, rows: Batch, chosen: Blob | None = None) -> Contribution:
    """The survey's sums over the rows, without noise.

    `chosen` are the bins that a refined survey divides, `bins` float64 [numbers, shares]. Raises `BadInput` where they
    are none.
    """
    return _contribution(survey, _sums(survey, rows, chosen, parts=False))


def surveyed_privately(
    survey: Survey, rows: Batch, setting: AnalysisNoise, stream: NoiseStream, chosen: Blob | None = None
) -> Contribution:
    """The same with fresh noise on each number; raises as `surveyed` does, and `Refused` for too many numbers."""
    sums = _sums(survey, rows, chosen, parts=True)
    return _contribution(survey, noised(survey_noise(setting, survey), sums, stream))


def _contribution(survey: Survey, sums: Floats) -> Contribution:
    ends = np.cumsum([sum(widths) for widths in survey.tables.values()])
    tensors = dict(zip(survey.tables, np.split(sums, ends[:-1]), strict=True))
    return Contribution({survey.name: Group(1.0, tensors)}, {}, {})


def _sums(survey: Survey, rows: Batch, chosen: Blob | None, *, parts: bool) -> Floats:
    """All tensors' numbers in order."""
    numbers = rows.numbers.astype(np.float64)
    match survey.name:
        case "moments":
            return _powers(survey, numbers, parts=parts)
        case "quantiles" if survey.refined:
            cells = {"numbers": _refined(survey, numbers, _chosen(survey, chosen))}
        case "quantiles":
            cells = {"numbers": _binned(survey, numbers)}
        case "histogram":
            last = [len(column.values) for column in survey.schema.categories]
            cells = {
                "numbers": _missing_last(_binned(survey, numbers), np.full(numbers.shape[1], survey.options.bins)),
                "categories": _missing_last(rows.categories, np.array(last, np.int64)),
                "label": rows.labels[:, None],
            }
        case _:
            cells = {
                "numbers": np.isnan(numbers).astype(np.int64),
                "categories": (rows.categories < 0).astype(np.int64),
                "label": rows.labels[:, None],
            }
    return np.concatenate([_counted(cells[name], widths) for name, widths in survey.tables.items()])


def _counted(cells: Cells, widths: tuple[int, ...]) -> Floats:
    """float64 [sum of widths]: rows by cell, of one table for each column of `cells`; -1 is in none."""
    tables = [np.bincount(column[column >= 0], minlength=width) for column, width in zip(cells.T, widths, strict=True)]
    return np.concatenate(tables).astype(np.float64)


def _binned(survey: Survey, numbers: Floats) -> Cells:
    """int64 [rows, numbers]: which bin each number is in, -1 where it is missing."""
    columns = zip(survey.schema.numbers, numbers.T, strict=True)
    found = [bins_of(values, edges(column, survey.options.bins)) for column, values in columns]
    return np.stack(found, axis=1) if found else np.empty((len(numbers), 0), np.int64)


def _missing_last(cells: Cells, last: npt.NDArray[np.int64]) -> Cells:
    return np.where(cells < 0, last, cells)


def _refined(survey: Survey, numbers: Floats, chosen: Cells) -> Cells:
    """int64 [rows, numbers x shares]: which part of a chosen bin each number is in, -1 where it is in none.

    A number counts for the first share alone whose bin it is in, so that one row adds one to a column.
    """
    coarse, bins, found = _binned(survey, numbers), survey.options.bins, []
    for index, column in enumerate(survey.schema.numbers):
        at = edges(column, bins)
        free = np.ones(len(numbers), bool)
        for one in chosen[index]:
            inside = free & (coarse[:, index] == one)
            finer = bins_of(numbers[:, index], np.linspace(at[one], at[one + 1], bins + 1))
            found.append(np.where(inside, finer, -1))
            free &= ~inside
    return np.stack(found, axis=1)


def _chosen(survey: Survey, blob: Blob | None) -> Cells:
    """The bins that the server asks to divide: bins of the plan, and nothing finer."""
    wanted = len(survey.schema.numbers), len(survey.options.shares)
    found = np.empty(0) if blob is None else blob.numpy("bins")
    if found.shape != wanted or not np.isin(found, np.arange(survey.options.bins)).all():
        raise BadInput("no bins of the plan are chosen", code="trainer.bins", value=str(found.shape), limit=str(wanted))
    return found.astype(np.int64)


def _powers(survey: Survey, numbers: Floats, *, parts: bool) -> Floats:
    """The sums of `MOMENTS` by column; in `parts` each row's powers are rounded first."""
    middle, half = (
        np.array([(column.maximum + sign * column.minimum) / 2 for column in survey.schema.numbers]) for sign in (1, -1)
    )
    z = np.clip(np.nan_to_num((numbers - middle) / half, nan=0.0), -1.0, 1.0)
    powers = [(~np.isnan(numbers)).astype(np.float64), *(z**power for power in range(1, len(MOMENTS)))]
    rounded = [np.rint(power * _PARTS) / _PARTS if parts else power for power in powers]
    return np.concatenate([power.sum(axis=0) for power in rounded])
