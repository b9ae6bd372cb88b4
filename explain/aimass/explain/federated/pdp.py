"""Partial dependence over a federation, and how far the rows' own curves fan out, without any of them.

A first step counts each feature over the federation, for a grid that all share. In a second, partners sum what the
model says with the feature set to each value of the grid. Rows' own curves never leave: what leaves is how many of them
have moved how far from where they begin, in bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
import numpy as np

from aimass.explain.federated.ale import steps_of
from aimass.explain.federated.asking import bounded_model_at, span, targets_of
from aimass.explain.federated.background import nothing_shared
from aimass.explain.federated.inputs import steps_in
from aimass.explain.federated.marginals import counted, marginal_phase, marginals_of
from aimass.explain.federated.seam import outputs_of, rows_at
from aimass.explain.federated.sums import Floats, Release, Sums, moments
from aimass.explain.gap.dependences import SHOWS_NOT, Dependence, Dependences
from aimass.explain.gap.inference import interval95
from aimass.explain.lineage import Lineage
from aimass.explain.models import Model, asked
from aimass.explain.rows import Feature, Rows, features_of
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.manifest import Number
from aimass.proto.surveys import bins_of
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert

__all__ = ["MOVES", "PdpOptions", "analysis", "partial"]

MOVES: Final = 64
"""Bins of how far a row's prediction moves, from a span down to a span up; 0 is an edge."""
_WAYS: Final = (0,) * (MOVES // 2) + (2,) * (MOVES // 2)
"""The way of each bin: down or up."""


class PdpOptions(Value, frozen=True):
    """The options of a stage."""

    points: Annotated[int, msgspec.Meta(ge=2, le=60, description="values of a number on the grid")] = 12
    output: Annotated[str, msgspec.Meta(description="the class whose probability is shown; the last where empty")] = ""


class FederatedPdp:
    """A step for the grid, and one for what the model says on it."""

    name = "pdp"
    asks = "how the mean prediction depends on each feature"
    options = PdpOptions

    def check(self, ask: Ask) -> None:
        """Columns of numbers and categories, and an output that there is."""
        nothing_shared(ask)
        features_of(ask.schema)
        _target(ask)

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """What the model says counts from the middle of its range, so that a row adds half a span at most."""
        shape, most = (len(ask.schema.columns), _width(ask)), span(ask.schema)
        root = math.sqrt(math.prod(shape))
        cells = (
            Cells(name="rows", counts=True),
            Cells(name="said", shape=shape, of="rows", row_norm=most / 2 * root),
            Cells(name="said_squares", shape=shape, of="rows", row_norm=most**2 / 4 * root),
            Cells(name="moved", shape=shape, of="rows", row_norm=most * root),
            Cells(name="moved_squares", shape=shape, of="rows", row_norm=most**2 * root),
            Cells(name="ways", shape=(*shape, 3), counts=True, tables=2),
            Cells(name="moves", shape=(*shape, MOVES), counts=True, tables=2, within="ways", parts=_WAYS),
        )
        return (marginal_phase(ask.schema), Phase(cells=cells))

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """A partner's part."""
        rows = rows_at(ask, at)
        if number == 0:
            return counted(rows)
        grid = steps_in(at, "grid", rows.features, _width(ask))
        return partial(bounded_model_at(ask, at), rows, grid, _target(ask), middle(ask), span(ask.schema))

    def next(self, ask: Ask, found: Sequence[Summed]) -> Mapping[str, Array] | None:
        """The grid, cut from the counts."""
        if len(found) > 1:
            return None
        spread = marginals_of(ask.schema, np.asarray(found[0].sums["marginals"]))
        return {"grid": steps_of(features_of(ask.schema), spread, _options(ask).points - 1, _width(ask))}

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> Dependences:
        """The curves as of pooled rows, none of them a row's own."""
        after = self.next(ask, found[:1])
        grid = np.empty((0, 0)) if after is None else np.asarray(after["grid"])
        sums = {name: np.asarray(one) for name, one in found[1].sums.items()}
        curves, left = [], []
        for place, feature in enumerate(features_of(ask.schema)):
            at = grid[place][~np.isnan(grid[place])]
            if len(at) < 2 or sums["rows"] < 2:
                left.append(feature.name)
                continue
            curves.append(
                _curve(
                    ask,
                    feature,
                    at,
                    {name: one[place, : len(at)] for name, one in sums.items() if one.ndim},
                    float(sums["rows"]),
                    release,
                )
            )
        output = outputs_of(ask)[_target(ask)]
        fan = f"The middle 80 % of rows is read from {MOVES} bins, and rows' own curves are not shown: they never left."
        said = [f"{name} has one value, or none: it has no curve." for name in left]
        return Dependences(
            lineage=lineage,
            caveats=(SHOWS_NOT, fan, *said, *release.caveats()),
            output=f"predicted probability of {output}" if ask.schema.classes else f"predicted {output}",
            used=max(0, round(float(sums["rows"]))),
            curves=tuple(curves),
            left_out=tuple(left),
        )


analysis = FederatedPdp()


def partial(
    model: Model, rows: Rows, grid: Floats, target: int, centre: float, most: float, work: Work | None = None
) -> Sums:
    """Of rows [n] by feature and value of `grid` [features, k]: sums of predictions less `centre`, and of their moves.

    A move is from the prediction at the grid's first value; `most` is the largest. `ways` counts moves down, none
    and up, and `moves` those down and up by bin.
    """
    predict, shape = asked(model, work or Work()), grid.shape
    said, said_squares, moved, moved_squares = (np.zeros(shape) for _ in range(4))
    moves, ways = np.zeros((*shape, MOVES)), np.zeros((*shape, 3))
    edges = np.linspace(-most, most, MOVES + 1)
    for place in range(shape[0]):
        changed, first = rows.values.copy(), np.empty(0)
        for point, value in enumerate(grid[place][~np.isnan(grid[place])]):
            changed[:, place] = value
            own = predict(changed)[:, target] - centre
            first = own if point == 0 else first
            move = own - first
            said[place, point], said_squares[place, point] = own.sum(), (own**2).sum()
            moved[place, point], moved_squares[place, point] = move.sum(), (move**2).sum()
            moves[place, point] = np.bincount(bins_of(move[move != 0], edges), minlength=MOVES)
            ways[place, point] = (move < 0).sum(), (move == 0).sum(), (move > 0).sum()
    return {
        "rows": np.array(float(len(rows))),
        "said": said,
        "said_squares": said_squares,
        "moved": moved,
        "moved_squares": moved_squares,
        "moves": moves,
        "ways": ways,
    }


def middle(ask: Ask) -> float:
    """Of the range of predictions."""
    label = ask.schema.label
    return (label.minimum + label.maximum) / 2 if isinstance(label, Number) else 0.5


def _curve(
    ask: Ask, feature: Feature, at: Floats, sums: Mapping[str, Floats], rows: float, release: Release
) -> Dependence:
    mean, error = moments(rows, sums["said"], sums["said_squares"], release.deviation("said"))
    mean = mean + middle(ask)
    moved, moved_error = moments(rows, sums["moved"], sums["moved_squares"], release.deviation("moved"))
    # Between the moves down and those up are rows that did not move.
    edges = np.insert(np.linspace(-span(ask.schema), span(ask.schema), MOVES + 1), MOVES // 2, 0.0)
    spread = np.insert(sums["moves"], MOVES // 2, sums["ways"][:, 1], axis=1)
    below, above = (np.array([_quantile(counts, edges, share) for counts in spread]) for share in (0.1, 0.9))
    below[0] = above[0] = 0.0  # (where each begins)
    other = sums["ways"][-1][0 if moved[-1] > 0 else 2]
    low, high = interval95(mean, error, round(rows))
    centred_low, centred_high = interval95(moved, moved_error, round(rows))
    return Dependence(
        feature=feature,
        at=at,
        mean=mean,
        low=low,
        high=high,
        lines=np.empty((0, len(at))),
        centred=moved,
        centred_low=centred_low,
        centred_high=centred_high,
        below=below,
        above=above,
        against=float(max(other, 0.0) / rows),
    )


def _quantile(counts: Floats, edges: Floats, share: float) -> float:
    """Linear within its bin."""
    kept = np.maximum(counts, 0.0)
    if kept.sum() <= 0:
        return 0.0
    return float(np.interp(share * kept.sum(), np.concatenate([[0.0], np.cumsum(kept)]), edges))


def _width(ask: Ask) -> int:
    most = max((len(one.values) for one in features_of(ask.schema) if one.kind == "category"), default=0)
    return max(_options(ask).points, most)


def _target(ask: Ask) -> int:
    return targets_of(ask, _options(ask).output)[-1]


def _options(ask: Ask) -> PdpOptions:
    return convert(PdpOptions, ask.options, "the options of `pdp`")
