"""SAGE: what each feature takes off the loss, fairly shared among all, with the rest unknown or known.

Covert, Lundberg and Lee 2020, "Understanding global feature contributions with additive importance measures",
algorithm 1: a feature joins in random order, those that have not joined are averaged over a background (marginal
imputation), and the values sum to the loss that all features together take off. Here every row is used as often as any
other and each order with its reverse, which takes noise off. It ends where the sampling error of every value is small
beside their range, as in the paper's section 4, or where it has gone through the rows often enough.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.losses import LossName, losses
from aimass.explain.lpi.background import Background
from aimass.explain.models import Predict
from aimass.explain.work import Work

__all__ = ["Sage", "sage_values"]

Floats = npt.NDArray[np.float64]
_CHUNK_BYTES: Final = 32 << 20
_ROUNDING: Final = 1e-12
"""Of a loss: a mean over the background of one number many times is that number but for this."""


@dataclasses.dataclass(frozen=True)
class Sage:
    """`value` [groups] with its `error` over rows and orders, of which `sampling` is what more orders would take away.

    The values sum to `whole`, what the features together take off the loss of these rows. `passes` is how often the
    rows were gone through.
    """

    value: Floats
    error: Floats
    sampling: Floats
    whole: float
    whole_error: float
    passes: int

    @property
    def missing(self) -> float:
        """The greatest sampling error over the range of the values: what the stopping rule looks at."""
        spread = float(np.ptp(self.value)) or float(np.abs(self.value).max(initial=0.0))
        worst = float(self.sampling.max(initial=0.0))
        return worst / spread if spread > 0 else (0.0 if worst == 0 else math.inf)


def sage_values(
    predict: Predict,
    values: Floats,
    labels: npt.NDArray[Any],
    background: Background,
    groups: Sequence[Sequence[int]],
    loss: LossName,
    work: Work,
    *,
    tolerance: float = 0.025,
    most_passes: int = 8,
) -> Sage:
    """Of rows [n, features] with `labels` [n]; at least two passes, `most_passes` at most.

    `predict` maps float64 [k, features] to [k, outputs]: `asked(model, work)`.
    """
    share = background.weights / background.weights.sum()
    unknown = losses((share @ predict(background.values))[None].repeat(len(values), 0), labels, loss)
    known = losses(predict(values), labels, loss)
    sums, squares = np.zeros((len(values), len(groups))), np.zeros((len(values), len(groups)))
    rng, passes = work.rng("gap", "sage"), 0
    game = _Game(predict, values, labels, background.values, share, groups, loss, unknown, known)
    found = None
    while passes < most_passes:
        gains = _one_pass(game, rng, work.part(passes / most_passes, (passes + 1) / most_passes))
        sums, squares, passes = sums + gains, squares + gains**2, passes + 1
        if passes > 1:
            found = _of_sums(sums, squares, passes, unknown - known)
            if found.missing <= tolerance:
                break
    return found or _of_sums(sums, squares, passes, unknown - known)


@dataclasses.dataclass(frozen=True)
class _Game:
    predict: Predict
    values: Floats
    labels: npt.NDArray[Any]
    references: Floats
    share: Floats
    groups: Sequence[Sequence[int]]
    loss: LossName
    unknown: Floats
    known: Floats


def _one_pass(game: _Game, rng: np.random.Generator, work: Work) -> Floats:
    """float64 [n, groups]: what each row's loss falls by as each group joins, mean of an order and its reverse."""
    count, players = len(game.values), len(game.groups)
    ranks = np.argsort(rng.random((count, players)), axis=1)
    found = np.empty((count, players))
    row_bytes = 16 * max(players - 1, 1) * game.references.size
    size = max(1, min(_CHUNK_BYTES, work.memory_bytes // 2) // row_bytes)
    for start in range(0, count, size):
        some = slice(start, start + size)
        found[some] = (_gains(game, some, ranks[some]) + _gains(game, some, players - 1 - ranks[some])) / 2
        work.check()
        work.tell(min(start + size, count) / count, "")
    return found


def _gains(game: _Game, some: slice, ranks: npt.NDArray[np.int64]) -> Floats:
    """One order for each row: `ranks` [m, groups] says when a group joins."""
    rows, labels, players = game.values[some], game.labels[some], ranks.shape[1]
    joined = ranks[:, None, :] < np.arange(1, players)[None, :, None]
    mask = np.zeros((len(rows), players - 1, rows.shape[1]), bool)
    for group, columns in enumerate(game.groups):
        mask[:, :, columns] = joined[:, :, group : group + 1]
    cells = np.where(mask[:, :, None, :], rows[:, None, None, :], game.references[None, None])
    said = game.predict(cells.reshape(-1, rows.shape[1]))
    mean = np.einsum("ckj,k->cj", said.reshape(-1, len(game.references), said.shape[1]), game.share)
    middle = losses(mean, np.repeat(labels, players - 1), game.loss).reshape(len(rows), players - 1)
    along = np.concatenate([game.unknown[some, None], middle, game.known[some, None]], axis=1)
    fallen = along[:, :-1] - along[:, 1:]
    fallen[np.abs(fallen) < _ROUNDING * (1.0 + np.abs(along[:, 1:]))] = 0.0
    found: Floats = np.take_along_axis(fallen, ranks, axis=1)
    return found


def _of_sums(sums: Floats, squares: Floats, passes: int, fallen: Floats) -> Sage:
    """Errors of row means, each of as many draws: over rows in whole, within rows what comes from the orders."""
    count, each = len(sums), sums / passes
    within = np.maximum(squares / passes - each**2, 0.0) * passes / max(passes - 1, 1)
    return Sage(
        value=each.mean(axis=0),
        error=each.std(axis=0, ddof=1) / math.sqrt(count),
        sampling=np.sqrt(within.mean(axis=0) / (passes * count)),
        whole=float(fallen.mean()),
        whole_error=float(fallen.std(ddof=1)) / math.sqrt(count),
        passes=passes,
    )
