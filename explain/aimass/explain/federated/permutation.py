"""Permutation importance over a federation: what the loss rises by where a feature's values are drawn anew.

Pooled, a row gets another row's value. Here it gets one from a marginal that all partners share: the counts of the
feature over the federation, which a first step finds, or those of a shared background. Shuffling within each partner
would ask another question where partners differ: values would still tell the partner. Draws are keyed by the seed,
the feature, the shuffle and the row, so they do not depend on where a row lies.
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
from aimass.explain.federated.importance import FederatedImportance
from aimass.explain.federated.marginals import (
    Marginal,
    counted,
    drawn,
    marginal_phase,
    marginals_of,
    marginals_of_rows,
    uniforms,
)
from aimass.explain.federated.seam import rows_at
from aimass.explain.federated.sums import Release, Sums, moments
from aimass.explain.lineage import Lineage
from aimass.explain.losses import LossName, losses
from aimass.explain.models import Model, asked
from aimass.explain.rows import Rows, features_of
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert

__all__ = ["PermutationOptions", "analysis", "partial"]

_CAVEATS: Final = (
    "Importance is what this model's loss rises by, not what would happen in the world.",
    "Features that tell the same stand in for one another: alone, each looks less important than it is.",
)
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
            Cells(name="squares", shape=(features,), of="rows", row_norm=most**2 * math.sqrt(features)),
        )
        judged = Phase(cells=cells)
        return (judged,) if ask.shared is not None else (marginal_phase(ask.schema), judged)

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """A partner's part."""
        rows = rows_at(ask, at)
        if number == 0 and ask.shared is None:
            return counted(rows)
        marginals = (
            marginals_of(ask.schema, at.inputs["marginals"])
            if ask.shared is None
            else marginals_of_rows(ask.schema, background_of(ask))
        )
        shuffles = _options(ask).shuffles
        return partial(bounded_model_at(ask, at), rows, at.keys, marginals, _loss(ask), shuffles, ask.seed)

    def next(self, ask: Ask, found: Sequence[Summed]) -> Mapping[str, Array] | None:
        """The marginals as they were counted."""
        return found[0].sums if ask.shared is None and len(found) == 1 else None

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> FederatedImportance:
        """The mean rise of each feature, with its interval over rows."""
        sums = found[-1].sums
        rows = float(sums["rows"])
        mean, error = moments(rows, np.asarray(sums["rises"]), np.asarray(sums["squares"]), release.deviation("rises"))
        told = _COUNTED if ask.shared is None else told_background(ask)
        return FederatedImportance.of(
            lineage=lineage,
            caveats=(*_CAVEATS, told, *release.caveats()),
            measure=f"rise of the {_loss(ask).replace('_', ' ')}",
            features=features_of(ask.schema),
            value=mean,
            error=error,
            rows=rows,
            release=release,
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
) -> Sums:
    """Of rows [n] with keys [n]: sums of their losses, and by feature of the mean rise over the shuffles."""
    predict, labels = asked(model, work or Work()), rows.need_labels()
    base = losses(predict(rows.values), labels, loss)
    rises = np.zeros((len(rows), len(rows.features)))
    for place, feature in enumerate(rows.features):
        changed = rows.values.copy()
        for shuffle in range(shuffles):
            changed[:, place] = drawn(marginals[place], uniforms(keys, "permutation", seed, feature.name, shuffle))
            rises[:, place] += (losses(predict(changed), labels, loss) - base) / shuffles
    return {
        "rows": np.array(float(len(rows))),
        "losses": np.array(base.sum()),
        "squared_losses": np.array((base**2).sum()),
        "rises": rises.sum(axis=0),
        "squares": (rises**2).sum(axis=0),
    }


def _options(ask: Ask) -> PermutationOptions:
    return convert(PermutationOptions, ask.options, "the options of `permutation`")


def _loss(ask: Ask) -> LossName:
    return loss_in(ask.schema, _options(ask).loss, "log_loss", "squared_error")
