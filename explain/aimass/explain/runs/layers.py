"""How a run changed each layer: norms and drift by round, agreement with the change before, spread of its weights."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import MOST_POINTS, Axis, Band, Heat, Layer, Line, Panel, Picture, names_axis
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.readings import learning, lineage_of_run, thinned
from aimass.explain.words import number
from aimass.proto.errors import WrongState
from aimass.proto.views import RunView, StepSummary

__all__ = ["Layers", "Relations", "layers", "quantile_bands", "relations"]

Floats = npt.NDArray[np.float64]
_MOST_LAYERS: Final = 40
_MOST_CELLS: Final = 200
"""Rounds side by side in a heat map; of more, every so many."""
_MOST_PAIRED: Final = 70
"""Rounds that are held against one another: their pairs are as many cells as a picture has points."""
_NOT_CAUSE: Final = "A layer that moves much is not for that more important: its scale is its own."
_SHARES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class Layers(Result, frozen=True, kw_only=True, eq=False, tag="runs.layers"):
    """Arrays float64 [layers, steps]: `norm` of the change, `drift` from the first model, `similarity` with the change
    before (NaN of none); `quantiles` [layers, steps, 7] of the weights at 0, 5, 25, 50, 75, 95 and 100 %."""

    names: tuple[str, ...]
    rounds: Array
    norm: Array
    drift: Array
    similarity: Array
    quantiles: Array

    def describe(self) -> tuple[str, ...]:
        """Which layer moved most and least, whether changes shrink, whether they go to and fro."""
        way = self.drift[:, -1]
        most, least = int(np.argmax(way)), int(np.argmin(way))
        total = np.sqrt((self.norm**2).sum(axis=0))
        furthest = f"From the first model {self.names[most]} has moved furthest ({number(way[most])})"
        said = [
            f"{furthest}, {self.names[least]} least ({number(way[least])}).",
            f"The change of a round was {number(total[0])} at first and {number(total[-1])} at last.",
        ]
        known = self.similarity[~np.isnan(self.similarity)]
        if len(known):
            share = float((known < 0).mean())
            to_and_fro = ": steps go to and fro, so a smaller learning rate may serve" if share > 0.5 else ""
            said.append(f"Changes point away from the one before in {number(100 * share)} % of cases{to_and_fro}.")
        return tuple(said)

    def picture(self) -> Picture:
        """Heat maps of norm, drift and similarity, the largest layers first, and the weights of the first of them."""
        shown = np.argsort(-self.drift[:, -1], kind="stable")[:_MOST_LAYERS]
        maps = (
            ("norm of the change, log10", _log(self.norm)),
            ("drift from the first model, log10", _log(self.drift)),
            ("cosine with the change before", self.similarity),
        )
        return Picture(
            "Layers over the rounds",
            (*(self._map(title, values, shown) for title, values in maps), self._weights(int(shown[0]))),
            "A row is a layer, a column a round; in the last panel the bands hold half and nine tenths of the weights.",
            _NOT_CAUSE,
        )

    def _map(self, title: str, values: Floats, shown: npt.NDArray[np.int64]) -> Panel:
        some = _every(len(self.rounds), min(_MOST_CELLS, MOST_POINTS // len(shown)))
        ends = np.arange(len(shown) + 1) - 0.5
        edges, signed = _edges(self.rounds[some]), values is self.similarity
        unit = "cosine" if signed else "log10"
        domain = (-1.0, 1.0) if signed else None
        heat = Heat(edges, ends, values[shown][:, some], unit, diverging=signed, domain=domain)
        return Panel(title, _rounds_axis(edges), names_axis(tuple(self.names[one] for one in shown)), (heat,))

    def _weights(self, layer: int) -> Panel:
        kept = thinned(self.quantiles[layer, :, 3], 500)
        x, q = self.rounds[kept], self.quantiles[layer][kept]
        title = f"weights of {self.names[layer]}"
        return Panel(title, Axis("round", whole=True), Axis("weight"), quantile_bands(x, q))

    def to_columns(self) -> Columns:
        """A row a layer and round."""
        layer, step = np.indices(self.norm.shape).reshape(2, -1)
        figures = {"norm": self.norm, "drift": self.drift, "similarity": self.similarity}
        spread = {f"weights_{share:g}": self.quantiles[:, :, place] for place, share in enumerate(_SHARES)}
        return {
            "layer": [self.names[one] for one in layer],
            "round": self.rounds[step].tolist(),
            **{name: _cells(values) for name, values in (figures | spread).items()},
        }


def quantile_bands(x: Floats, quantiles: Floats) -> tuple[Layer, ...]:
    """The median over two bands of one hue, of `quantiles` [n, 7] at 0, 5, 25, 50, 75, 95 and 100 % over `x` [n].

    Where the bands lie upon one another they are darker: two hues would mix to one that no legend names.
    """
    said = "nine tenths (light), half (dark)"
    return (
        Band(x, quantiles[:, 1], quantiles[:, 5], "series:0", said),
        Band(x, quantiles[:, 2], quantiles[:, 4], "series:0", said),
        Line(x, quantiles[:, 3], "series:1", "median"),
    )


class Relations(Result, frozen=True, kw_only=True, eq=False, tag="runs.relations"):
    """`correlation` float64 [layers, layers]: of the logarithms of two layers' norms over the rounds (Spearman).

    `cosine` [some, some] of the changes of two of the rounds `paired`, evenly apart, from sketches: off by about
    `noise` (one deviation). `neighbours` is the mean cosine of the changes of a round and the next, NaN of one round.
    """

    names: tuple[str, ...]
    rounds: Array
    correlation: Array
    paired: Array
    cosine: Array
    neighbours: float
    noise: float

    def describe(self) -> tuple[str, ...]:
        """The layers that change together most, and how alike rounds are."""
        said = []
        if len(self.names) > 1 and len(self.rounds) > 2:
            apart = np.where(np.tri(len(self.names), dtype=bool), -np.inf, np.nan_to_num(self.correlation, nan=-np.inf))
            one, other = np.unravel_index(int(np.argmax(apart)), apart.shape)
            said.append(
                f"{self.names[one]} and {self.names[other]} change in step most "
                f"(rank correlation {number(float(self.correlation[one, other]), 2)} over {len(self.rounds)} rounds)."
            )
        if len(self.rounds) > 1:
            said.append(
                f"The changes of neighbouring rounds have a cosine of {number(self.neighbours, 2)} on average; "
                f"sketches tell it to about {number(self.noise, 1)} each."
            )
        return tuple(said) or ("Relations need two rounds at least.",)

    def picture(self) -> Picture:
        """Both matrices."""
        shown = min(len(self.names), _MOST_LAYERS)
        names, ends = self.names[:shown], np.arange(shown + 1) - 0.5
        edges = _edges(self.paired)
        side = max(200, 14 * shown)
        layers_ = Heat(ends, ends, self.correlation[:shown, :shown], "rank correlation", diverging=True, domain=(-1, 1))
        rounds_ = Heat(edges, edges, self.cosine, "cosine", diverging=True, domain=(-1, 1))
        return Picture(
            "Relations between parameters",
            (
                Panel("layers that change together", names_axis(names), names_axis(names), (layers_,), width=side),
                Panel("rounds that change alike", _rounds_axis(edges), _rounds_axis(edges), (rounds_,), 300, 300),
            ),
            "Left: whether two layers have their large and their small changes in the same rounds. Right: whether two "
            "rounds moved the model the same way.",
            "Few rounds make large correlations by chance: with 10 of them 0.63 is reached once in 20 pairs.",
            columns=2,
        )

    def to_columns(self) -> Columns:
        """A row a pair of layers."""
        one, other = np.indices(self.correlation.shape).reshape(2, -1)
        return {
            "layer": [self.names[place] for place in one],
            "other": [self.names[place] for place in other],
            "rank_correlation": _cells(self.correlation),
        }


def layers(run: RunView) -> Layers:
    """Of a run's training steps; raises `WrongState` where the server kept none."""
    steps = _steps(run)
    names = tuple(sorted({name for _, summary in steps for name in summary.layers}))
    shape = len(names), len(steps)
    norm, drift, similarity = (np.full(shape, np.nan) for _ in range(3))
    quantiles = np.full((*shape, len(_SHARES)), np.nan)
    for column, (_, summary) in enumerate(steps):
        for row, name in enumerate(names):
            if (layer := summary.layers.get(name)) is None:
                continue
            norm[row, column], drift[row, column] = layer.norm, layer.drift
            similarity[row, column] = np.nan if layer.similarity is None else layer.similarity
            quantiles[row, column] = layer.quantiles
    return Layers(
        lineage=lineage_of_run(run),
        names=names,
        rounds=np.array([round_ for round_, _ in steps], np.int64),
        norm=norm,
        drift=drift,
        similarity=similarity,
        quantiles=quantiles,
        caveats=(_NOT_CAUSE,),
    )


def relations(run: RunView) -> Relations:
    """Between layers by their norms, between rounds by their sketches; raises as `layers` does."""
    found, sketches = layers(run), np.array([summary.sketch for _, summary in _steps(run)])
    some = _every(len(sketches), _MOST_PAIRED)
    return Relations(
        lineage=found.lineage,
        names=found.names,
        rounds=found.rounds,
        correlation=rank_correlation(_log(found.norm)),
        paired=found.rounds[some],
        cosine=cosines(sketches[some]),
        neighbours=_beside(sketches),
        noise=float(1 / np.sqrt(sketches.shape[1])),
        caveats=(_NOT_CAUSE,),
    )


def rank_correlation(series: Floats) -> Floats:
    """Spearman's, [n, n] of series [n, steps]: by mean ranks; NaN of one that is constant, or where a value is none."""
    ranks = np.array([_ranks(one) for one in series]).reshape(series.shape)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = centred @ centred.T / np.outer(norms, norms)
    return np.clip(found, -1.0, 1.0)


def cosines(sketches: Floats) -> Floats:
    """[steps, steps] of count sketches [steps, buckets], whose inner products estimate those of what they are of."""
    products = sketches @ sketches.T
    norms = np.sqrt(np.diagonal(products))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = products / np.outer(norms, norms)
    return np.clip(found, -1.0, 1.0)


def _beside(sketches: Floats) -> float:
    """The mean cosine of each sketch and the next; NaN where no two have a length."""
    lengths = np.linalg.norm(sketches, axis=1)
    scale = lengths[1:] * lengths[:-1]
    products = (sketches[1:] * sketches[:-1]).sum(axis=1)
    known = scale > 0
    return float((products[known] / scale[known]).mean()) if known.any() else math.nan


def _ranks(values: Floats) -> Floats:
    """Mean ranks, so that ties do not depend on their order; NaN throughout where a value is none."""
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle: Floats = np.cumsum(counts) - (counts - 1) / 2.0
    return middle[inverse]


def _steps(run: RunView) -> list[tuple[int, StepSummary]]:
    steps = [(step.round, step.summary) for step in learning(run) if step.summary is not None]
    if not steps:
        raise WrongState(
            "no step of this run has changed a model yet, or how is not kept",
            code="explain.no_training",
            value=run.summary.run_id,
            cure="Choose a run that has trained.",
        )
    return steps


def _log(values: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        found: Floats = np.log10(values)
    return np.where(np.isfinite(found), found, np.nan)


def _every(count: int, most: int = _MOST_CELLS) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _edges(rounds: Array) -> Floats:
    """Where cells of these rounds begin and end: half-way to the next."""
    middle = (rounds[1:] + rounds[:-1]) / 2
    return np.concatenate([[rounds[0] - 0.5], middle, [rounds[-1] + 0.5]])


def _rounds_axis(edges: Floats) -> Axis:
    return Axis("round", domain=(float(edges[0]), float(edges[-1])), grid=False, whole=True)


def _cells(values: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values.ravel()]
