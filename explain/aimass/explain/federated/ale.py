"""Accumulated local effects over a federation: the pooled curve, and its error, from sums by step.

A first step counts each feature over the federation and cuts it where about as many rows lie between two edges. In a
second, partners sum by cell how far the prediction rises. The curve is a function of these sums, its error is too: it
is that of each row's influence (`gap.ale`), whose squares need the sums of squares and products below and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
import numpy as np

from aimass.explain.federated.asking import bounded_model_at, span, targets_of
from aimass.explain.federated.background import nothing_shared
from aimass.explain.federated.inputs import steps_in
from aimass.explain.federated.local_effects import LocalEffect, of_category, of_number
from aimass.explain.federated.marginals import FINE, Marginal, counted, marginal_phase, marginals_of
from aimass.explain.federated.seam import outputs_of, rows_at
from aimass.explain.federated.sums import Floats, Release, Sums
from aimass.explain.gap.effects import SHOWS_NOT, Effect, Effects
from aimass.explain.gap.inference import interval95
from aimass.explain.lineage import Lineage
from aimass.explain.models import Model, asked
from aimass.explain.rows import Feature, Rows, features_of
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert

__all__ = ["AleOptions", "analysis", "partial", "steps_of"]

_EDGES: Final = "Edges are cut from counts over the federation, so a step is as fine as their bins at best."
_BEHIND: Final = 2
_ORDER: Final = "Categories stand in the schema's order."


class AleOptions(Value, frozen=True):
    """The options of a stage."""

    steps: Annotated[int, msgspec.Meta(ge=2, le=60, description="steps of a number, of about as many rows each")] = 20
    output: Annotated[str, msgspec.Meta(description="the class whose probability moves; the last where empty")] = ""


class FederatedAle:
    """A step for the edges, and one for how far predictions rise."""

    name = "ale"
    asks = "how predictions move with each feature"
    options = AleOptions

    def check(self, ask: Ask) -> None:
        """Columns of numbers and categories, and an output that there is."""
        nothing_shared(ask)
        features_of(ask.schema)
        _target(ask)

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """By feature and cell the rows, and the sums of u, v, u^2, v^2 and u v of each: see `local_effects`.

        Behind the cells of the curve are one of values that it has not, and one of what is missing.
        """
        width = _width(ask)
        shape, parts = (len(ask.schema.columns), width + _BEHIND), (0,) * (width + 1) + (1,)
        most = max(1.0, span(ask.schema))
        norm = math.sqrt(shape[0] * (2 * most**2 + 3 * most**4))
        cells = (
            Cells(name="cells", shape=shape, counts=True, tables=1, parts=parts),
            Cells(name="moments", shape=(*shape, 5), of="cells", row_norm=norm),
        )
        return (marginal_phase(ask.schema), Phase(cells=cells))

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """A partner's part."""
        rows = rows_at(ask, at)
        if number == 0:
            return counted(rows)
        edges = steps_in(at, "edges", rows.features, _width(ask))
        return partial(bounded_model_at(ask, at), rows, edges, _target(ask))

    def next(self, ask: Ask, found: Sequence[Summed]) -> Mapping[str, Array] | None:
        """The edges, cut from the counts."""
        if len(found) > 1:
            return None
        spread = marginals_of(ask.schema, np.asarray(found[0].sums["marginals"]))
        return {"edges": steps_of(features_of(ask.schema), spread, _options(ask).steps, _width(ask))}

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> Effects:
        """The curves as of pooled rows, with the noise of the sums in their intervals."""
        after = self.next(ask, found[:1])
        edges = np.asarray(after["edges"]) if after is not None else np.empty((0, 0))
        cells, moments = (np.asarray(found[1].sums[name])[:, :-_BEHIND] for name in ("cells", "moments"))
        missing = np.asarray(found[0].sums["marginals"])
        curves, left = [], []
        for place, feature in enumerate(features_of(ask.schema)):
            at = edges[place][~np.isnan(edges[place])]
            if len(at) < 2 or cells[place].sum() < 1:
                left.append(feature.name)
                continue
            of = of_category if feature.kind == "category" else of_number
            effect = of(at, cells[place], moments[place], release.deviation("moments"))
            absent = missing[place][_missing_cell(feature)]
            curves.append(_curve(feature, effect, round(cells[place].sum()), max(0, round(float(absent)))))
        output = outputs_of(ask)[_target(ask)]
        said = [f"{name} has one value, or none: it has no curve." for name in left]
        thin = [one.feature.name for one in curves if one.behind.min() < 1]
        if thin:
            said.append(f"A step of {', '.join(thin)} has no rows: the curve is flat there, and nobody knows better.")
        return Effects(
            lineage=lineage,
            caveats=(SHOWS_NOT, _EDGES, _ORDER, *said, *release.caveats()),
            output=f"predicted probability of {output}" if ask.schema.classes else f"predicted {output}",
            curves=tuple(curves),
            left_out=tuple(left),
        )


analysis = FederatedAle()


def partial(model: Model, rows: Rows, edges: Floats, target: int, work: Work | None = None) -> Sums:
    """Of rows [n]: how many, and the sums of `local_effects`, by feature and cell of `edges` [features, k].

    In no cell of a curve are values that it has not, which are counted at k, and what is missing, at k + 1.
    """
    predict, features, width = asked(model, work or Work()), len(edges), edges.shape[1] + _BEHIND
    counts, moments = np.zeros((features, width)), np.zeros((features, width, 5))
    said = predict(rows.values)[:, target] if len(rows) else np.empty(0)
    for place, feature in enumerate(rows.features):
        at = edges[place][~np.isnan(edges[place])]
        known = np.flatnonzero(
            np.isin(rows.values[:, place], at) if feature.kind == "category" else ~np.isnan(rows.values[:, place])
        )
        counts[place, -1] = np.isnan(rows.values[:, place]).sum()
        if len(at) < 2 or not len(known):
            counts[place, -2] = len(rows) - counts[place, -1]
            continue
        counts[place, -2] = len(rows) - counts[place, -1] - len(known)
        cells = rows.values[known, place]

        def moved(to: Floats, column: int = place, some: Array = known) -> Floats:
            changed = rows.values[some].copy()
            changed[:, column] = to
            found: Floats = predict(changed)[:, target]
            return found

        if feature.kind == "category":
            own = np.searchsorted(at, cells)
            first, last = own == 0, own == len(at) - 1
            u = np.where(first, 0.0, said[known] - moved(at[np.maximum(own - 1, 0)]))
            v = np.where(last, 0.0, moved(at[np.minimum(own + 1, len(at) - 1)]) - said[known])
        else:
            own = np.clip(np.searchsorted(at, cells, side="left") - 1, 0, len(at) - 2)
            u = moved(at[own + 1]) - moved(at[own])
            v = np.clip((cells - at[own]) / (at[own + 1] - at[own]), 0.0, 1.0)
        counts[place] += np.bincount(own, minlength=width)
        for which, values in enumerate((u, v, u * u, v * v, u * v)):
            moments[place, :, which] = np.bincount(own, values, minlength=width)
    return {"cells": counts, "moments": moments}


def steps_of(features: Sequence[Feature], spread: Sequence[Marginal], steps: int, width: int) -> Floats:
    """float64 [features, width]: ascending edges of a number, values of a category that rows have; NaN behind them.

    A number's edges are those of bins, so that each step has rows and about as many as others.
    """
    found = np.full((len(features), width), np.nan)
    for place, (feature, one) in enumerate(zip(features, spread, strict=True)):
        if feature.kind == "category":
            at = one.values[:-1][one.shares[:-1] > 0]
        else:
            shares = one.shares[:-1]
            held = np.flatnonzero(shares > 0)
            step = np.floor(np.cumsum(shares[held]) / max(shares.sum(), 1e-300) * steps * (1 - 1e-12))
            ends = held[np.append(np.flatnonzero(np.diff(step)), len(held) - 1)] + 1 if len(held) else held
            at = one.edges[np.append(held[:1], ends)]
        found[place, : len(at)] = at
    return found


def _missing_cell(feature: Feature) -> int:
    return len(feature.values) if feature.kind == "category" else FINE


def _width(ask: Ask) -> int:
    most = max((len(one.values) for one in features_of(ask.schema) if one.kind == "category"), default=0)
    return max(_options(ask).steps + 1, most)


def _target(ask: Ask) -> int:
    return targets_of(ask, _options(ask).output)[-1]


def _options(ask: Ask) -> AleOptions:
    return convert(AleOptions, ask.options, "the options of `ale`")


def _curve(feature: Feature, effect: LocalEffect, rows: int, missing: int) -> Effect:
    low, high = interval95(effect.value, effect.error, rows)
    ends = interval95(np.array(effect.change), np.array(effect.change_error), rows)
    return Effect(
        feature=feature,
        at=effect.at,
        value=effect.value,
        low=low,
        high=high,
        behind=np.rint(effect.behind).astype(np.int64),
        missing=missing,
        change=effect.change,
        change_low=float(ends[0]),
        change_high=float(ends[1]),
    )
