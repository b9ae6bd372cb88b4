"""Permutation importance over a federation: what the loss rises by where a feature's values are drawn anew.

Pooled, a row gets another row's value. Here it gets one from a marginal that all partners share: the counts of the
feature over the federation, which a first step finds, or those of a shared background. Shuffling within each partner
would ask another question where partners differ: values would still tell the partner. Draws are keyed by the seed,
the feature, the shuffle and the row, so they do not depend on where a row lies.

Where the marginal is counted of the rows themselves, a row lends its value as it takes others', and its influence on
the importance is what its own loss rises by and what others' rise by under its value (`gap.permutation`). What a value
does to others is known by cell: so the error follows from sums by the cell that a row has, and by the one it draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.federated.asking import bounded_model_at, largest_loss, loss_in
from aimass.explain.federated.background import background_of, told_background
from aimass.explain.federated.inputs import marginals_in
from aimass.explain.federated.marginals import (
    Marginal,
    cells_of,
    counted,
    drawn,
    marginal_phase,
    marginals_of,
    marginals_of_rows,
    uniforms,
    width_of,
)
from aimass.explain.federated.seam import rows_at
from aimass.explain.federated.sums import Floats, Release, Sums, moments
from aimass.explain.gap.importance import SHOWS_NOT, Importance
from aimass.explain.gap.inference import interval95, rank_intervals
from aimass.explain.lineage import Lineage
from aimass.explain.losses import LossName, losses
from aimass.explain.models import Model, asked
from aimass.explain.rows import Rows, features_of
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.errors import BadInput
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert

__all__ = ["PermutationOptions", "analysis", "lending_variance", "partial"]

_ALIKE: Final = "Features that tell the same stand in for one another: alone, each looks less important than it is."
_DRAWS: Final = 1_000
_COUNTED: Final = "Values are drawn from each feature's counts over the federation, in bins of the schema's bounds."


class PermutationOptions(Value, frozen=True):
    """The options of a stage. Log loss has a wide bound, so with noise another loss says more."""

    loss: Annotated[
        Literal["", "log_loss", "brier", "error_rate", "squared_error", "absolute_error"],
        msgspec.Meta(description="how errors are measured; the model's own loss where empty"),
    ] = ""
    shuffles: Annotated[int, msgspec.Meta(ge=1, le=1_000, description="draws for each row and feature")] = 30


class FederatedPermutation:
    """A step for the marginals, unless a background is shared, and one for the losses."""

    name = "permutation"
    asks = "what the model's loss rests on, by drawing features anew"
    options = PermutationOptions

    def check(self, ask: Ask) -> None:
        """A loss of the label's kind, and a background that fits if there is one."""
        _loss(ask)
        features_of(ask.schema)
        if ask.shared is not None:
            background_of(ask)

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """A row's loss rises by what the loss can be at most."""
        features, most = len(ask.schema.columns), largest_loss(ask.schema, _loss(ask))
        cells = (
            Cells(name="rows", counts=True),
            Cells(name="losses", of="rows", row_norm=most),
            Cells(name="squared_losses", of="rows", row_norm=most**2),
            Cells(name="rises", shape=(features,), of="rows", row_norm=most * math.sqrt(features)),
            Cells(name="products", shape=(features, features), of="rows", row_norm=most**2 * features),
        )
        if ask.shared is not None:
            return (Phase(cells=cells),)
        shape, root = (features, width_of(features_of(ask.schema))), math.sqrt(features)
        lending = (
            Cells(name="own", shape=shape, counts=True, tables=1),
            Cells(name="taken", shape=shape, of="own", row_norm=most * root),
            Cells(name="drawn", shape=shape, counts=True, tables=1, overlapping=True),
            Cells(name="lent", shape=shape, of="drawn", row_norm=most * root),
        )
        return (marginal_phase(ask.schema), Phase(cells=(*cells, *lending)))

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """A partner's part."""
        rows = rows_at(ask, at)
        if number == 0 and ask.shared is None:
            return counted(rows)
        marginals = (
            marginals_of(ask.schema, marginals_in(at, (len(rows.features), width_of(rows.features))))
            if ask.shared is None
            else marginals_of_rows(ask.schema, background_of(ask))
        )
        shuffles = _options(ask).shuffles
        return partial(
            bounded_model_at(ask, at),
            rows,
            at.keys,
            marginals,
            _loss(ask),
            shuffles,
            ask.seed,
            lends=ask.shared is None,
        )

    def next(self, ask: Ask, found: Sequence[Summed]) -> Mapping[str, Array] | None:
        """The marginals as they were counted."""
        return found[0].sums if ask.shared is None and len(found) == 1 else None

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> Importance:
        """The mean rise of each feature, with its interval over rows, and the ranks that it may have."""
        sums = {name: np.asarray(one) for name, one in found[-1].sums.items()}
        rows, names = float(sums["rows"]), tuple(feature.name for feature in features_of(ask.schema))
        if rows < 2:
            raise BadInput(
                "too few rows were counted for an interval",
                code="explain.rows.few",
                value=round(rows),
                limit=2,
                cure="Ask more partners, or for their training rows.",
            )
        value, error = moments(rows, sums["rises"], np.diagonal(sums["products"]), release.deviation("rises"))
        if ask.shared is None:
            spread = marginals_of(ask.schema, np.asarray(found[0].sums["marginals"]))
            shuffles = None if release.deviation("drawn") else _options(ask).shuffles
            lending = lending_variance(rows, value, sums, spread, shuffles)
            error = np.sqrt(np.maximum(error**2 + lending, error**2 / 2))  # (noise may take off more than there is)
        base, base_error = moments(rows, sums["losses"], sums["squared_losses"], release.deviation("losses"))
        best, worst = rank_intervals(value, _resampled(rows, sums, error, Work(seed=ask.seed)))
        low, high = interval95(value, error, round(rows))
        base_low, base_high = interval95(base, base_error, round(rows))
        return Importance(
            lineage=lineage,
            caveats=(SHOWS_NOT, _ALIKE, _COUNTED if ask.shared is None else told_background(ask), *release.caveats()),
            loss=_loss(ask),
            base=float(base),
            base_low=float(base_low),
            base_high=float(base_high),
            shuffles=_options(ask).shuffles,
            names=names,
            members=tuple((name,) for name in names),
            value=value,
            low=low,
            high=high,
            error=error,
            best=best,
            worst=worst,
            exact=np.zeros(len(names), bool),
        )


analysis = FederatedPermutation()


def partial(
    model: Model,
    rows: Rows,
    keys: npt.NDArray[np.uint64],
    marginals: Sequence[Marginal],
    loss: LossName,
    shuffles: int,
    seed: int,
    work: Work | None = None,
    *,
    lends: bool = False,
) -> Sums:
    """Of rows [n] with keys [n]: sums of their losses, and by feature of the mean rise over the shuffles.

    The sums of products of two features' rises tell how far their difference may be off, and so their ranks. With
    `lends` also the sums by cell that `lending_variance` needs.
    """
    predict, labels, features = asked(model, work or Work()), rows.need_labels(), rows.features
    base = losses(predict(rows.values), labels, loss)
    rises, width = np.zeros((len(rows), len(features))), width_of(features)
    lent, taking = np.zeros((len(features), width)), np.zeros((len(features), width))
    for place, feature in enumerate(features):
        changed, spread = rows.values.copy(), marginals[place]
        drew = np.zeros((len(rows), width if lends else 0), bool)
        for shuffle in range(shuffles):
            cells = drawn(spread, uniforms(keys, "permutation", seed, feature.name, shuffle))
            changed[:, place] = spread.values[cells]
            rise = (losses(predict(changed), labels, loss) - base) / shuffles
            rises[:, place] += rise
            if lends:
                lent[place] += np.bincount(cells, rise, minlength=width)
                drew[np.arange(len(rows)), cells] = True
        taking[place, : drew.shape[1]] = drew.sum(axis=0)
    found = {
        "rows": np.array(float(len(rows))),
        "losses": np.array(base.sum()),
        "squared_losses": np.array((base**2).sum()),
        "rises": rises.sum(axis=0),
        "products": rises.T @ rises,
    }
    if not lends:
        return found
    own = [cells_of(feature, rows.values[:, place]) for place, feature in enumerate(features)]
    taken = [np.bincount(cells, rises[:, place], minlength=width).astype(np.float64) for place, cells in enumerate(own)]
    counts = [np.bincount(cells, minlength=width).astype(np.float64) for cells in own]
    return found | {"own": np.stack(counts), "taken": np.stack(taken), "drawn": taking, "lent": lent}


def lending_variance(
    rows: float, value: Floats, sums: Mapping[str, Floats], spread: Sequence[Marginal], shuffles: int | None = None
) -> Floats:
    """float64 [features]: what lending adds to the variance of the mean rises, of which taking alone is known.

    With l_b the mean rise of rows that draw from cell b, that is Var(l) + 2 Cov(l, taken) over rows in their own cells.
    With `shuffles`, of cells that few rows of a partner drew from its rows are not in the sums: how many rows are
    follows from how many `drawn` are. What no row's sum tells of counts as the mean.
    """
    if rows < 2:
        return np.full(len(value), np.nan)
    found = np.zeros(len(value))
    for place, one in enumerate(spread):
        share = one.shares
        cells = slice(len(share))
        drawn_ = np.maximum(sums["drawn"][place, cells], 0.0)
        there = np.full(len(share), rows)
        if shuffles is not None:
            ever = 1.0 - (1.0 - share) ** shuffles
            there = np.minimum(rows, np.divide(drawn_, ever, out=np.zeros(len(share)), where=ever > 0))
        told = (share > 0) & (there > 0)
        mean = np.divide(sums["lent"][place, cells], there * share, out=np.full(len(share), value[place]), where=told)
        away = mean - value[place]
        taken = sums["taken"][place, cells] - value[place] * sums["own"][place, cells]
        found[place] = (share @ away**2 + 2 * away @ taken / rows) / (rows - 1)
    return found


def _resampled(rows: float, sums: Mapping[str, Floats], error: Floats, work: Work) -> Floats:
    """float64 [draws, features]: the mean rises less themselves, drawn anew by their errors, and as rises correlate.

    NaN, and so no rank, where there are too few rows for an error.
    """
    if not np.isfinite(error).all():
        return np.full((_DRAWS, len(error)), np.nan)
    mean = sums["rises"] / rows
    covariance = (sums["products"] / rows - np.outer(mean, mean)) / (rows - 1)
    taking = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    both = np.outer(taking, taking)
    alike = np.divide(covariance, both, out=np.zeros_like(covariance), where=both > 0)  # (noise may leave no variance)
    covariance = np.clip(alike, -1.0, 1.0) * np.outer(error, error)
    np.fill_diagonal(covariance, error**2)
    sizes, axes = np.linalg.eigh((covariance + covariance.T) / 2)
    drawn_ = work.rng("federated", "ranks").standard_normal((_DRAWS, len(error)))
    found: Floats = (drawn_ * np.sqrt(np.maximum(sizes, 0.0))) @ axes.T
    return found


def _options(ask: Ask) -> PermutationOptions:
    return convert(PermutationOptions, ask.options, "the options of `permutation`")


def _loss(ask: Ask) -> LossName:
    return loss_in(ask.schema, _options(ask).loss, "log_loss", "squared_error")
