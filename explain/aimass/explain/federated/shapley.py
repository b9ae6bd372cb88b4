"""What the model uses overall, by mean |SHAP|: each partner explains its own rows against one shared background.

Lundberg and Lee 2017 average the absolute Shapley values over rows. Over partners that is a sum, as long as all hold
their rows against the same background; each row's values are exact (`lpi.shapley`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
import numpy as np

from aimass.explain.federated.asking import bounded_model_at, span, targets_of
from aimass.explain.federated.background import background_of, told_background
from aimass.explain.federated.importance import FederatedImportance
from aimass.explain.federated.seam import outputs_of, rows_at
from aimass.explain.federated.sums import Floats, Release, Sums, moments
from aimass.explain.lineage import Lineage
from aimass.explain.lpi.shapley import MOST_PLAYERS, exact_shapley
from aimass.explain.models import Model, asked
from aimass.explain.rows import Rows, features_of
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.errors import LimitExceeded
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert

__all__ = ["ShapleyOptions", "analysis", "partial"]

_CAVEATS: Final = (
    "A Shapley value follows the model, not the world: a feature that the model does not use has none.",
    "Values depend on the background: another one gives others.",
)


class ShapleyOptions(Value, frozen=True):
    """The options of a stage."""

    output: Annotated[str, msgspec.Meta(description="the class whose probability is explained; all where empty")] = ""


class FederatedShapley:
    """One step: sums over rows of each feature's values, of their sizes and of their squares."""

    name = "shapley"
    asks = "what the model uses overall, by mean |SHAP| against a shared background"
    options = ShapleyOptions

    def check(self, ask: Ask) -> None:
        """Features few enough to be exact, and a background that fits."""
        targets_of(ask, _options(ask).output)
        if len(features_of(ask.schema)) > MOST_PLAYERS:
            raise LimitExceeded(
                "too many features for exact Shapley values",
                code="explain.players",
                value=len(ask.schema.columns),
                limit=MOST_PLAYERS,
                cure="Ask for `permutation`, `pdp` or `ale`.",
            )
        background_of(ask)

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """Shapley values lie within the span of predictions (each is a mean of differences between two)."""
        shape = (len(ask.schema.columns), len(targets_of(ask, _options(ask).output)))
        most, root = span(ask.schema), math.sqrt(math.prod(shape))
        cells = (
            Cells(name="rows", counts=True),
            Cells(name="sizes", shape=shape, of="rows", row_norm=most * root),
            Cells(name="values", shape=shape, of="rows", row_norm=most * root),
            Cells(name="squares", shape=shape, of="rows", row_norm=most**2 * root),
        )
        return (Phase(cells=cells),)

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """A partner's part."""
        targets = targets_of(ask, _options(ask).output)
        return partial(bounded_model_at(ask, at), rows_at(ask, at), background_of(ask), targets)

    def next(self, ask: Ask, found: Sequence[Summed]) -> None:
        """There is no further step."""

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> FederatedImportance:
        """Mean |SHAP| with the interval over rows; of several outputs the sum over them."""
        sums = found[-1].sums
        rows = float(sums["rows"])
        sizes, squares = np.asarray(sums["sizes"]), np.asarray(sums["squares"])
        mean, error = moments(rows, sizes, squares, release.deviation("sizes"))
        outputs = outputs_of(ask)
        of = " and ".join(outputs[place] for place in targets_of(ask, _options(ask).output)[:3])
        return FederatedImportance.of(
            lineage=lineage,
            caveats=(*_CAVEATS, told_background(ask), *release.caveats()),
            measure=f"mean |SHAP| of {of}",
            features=features_of(ask.schema),
            value=mean.sum(axis=1),
            error=error.sum(axis=1),
            rows=rows,
            release=release,
        )


analysis = FederatedShapley()


def partial(model: Model, rows: Rows, background: Floats, targets: Sequence[int], work: Work | None = None) -> Sums:
    """Of rows [n]: how many, and sums [features, targets] of Shapley values, of their sizes and squares."""
    shape = (len(rows.features), len(targets))
    if not len(rows):
        return {"rows": np.array(0.0), "sizes": np.zeros(shape), "values": np.zeros(shape), "squares": np.zeros(shape)}
    work = work or Work()
    values = exact_shapley(asked(model, work), rows.values, background, work=work).values[:, :, list(targets)]
    return {
        "rows": np.array(float(len(rows))),
        "sizes": np.abs(values).sum(axis=0),
        "values": values.sum(axis=0),
        "squares": (values**2).sum(axis=0),
    }


def _options(ask: Ask) -> ShapleyOptions:
    return convert(ShapleyOptions, ask.options, "the options of `shapley`")
