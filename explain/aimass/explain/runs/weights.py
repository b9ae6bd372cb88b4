"""The weights of one layer over the rounds: their quantiles after each, and histograms of models that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Line, Panel, Picture
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.layers import Layers, quantile_bands
from aimass.explain.runs.readings import thinned
from aimass.explain.words import counted, number, percent
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.storage import map_file
from aimass.proto.tensors import Blob

__all__ = ["Histograms", "Spread", "histograms", "read_weights", "spread"]

_MOST_SHOWN: Final = 500
_BINS: Final = 60
_MOST_WEIGHTS: Final = 1_000_000
_SHARES: Final = ("0", "5", "25", "50", "75", "95", "100")
_NOT_SHOWN: Final = "Which weights matter: a layer with small weights may decide as much as one with large ones."


class Spread(Result, frozen=True, kw_only=True, eq=False, tag="runs.spread"):
    """`quantiles` float64 [rounds, 7] of one layer's weights after each round, at 0, 5, 25, 50, 75, 95 and 100 %."""

    layer: str
    rounds: Array
    quantiles: Array

    def describe(self) -> tuple[str, ...]:
        """The middle and the width at first and at last."""
        width = self.quantiles[:, 5] - self.quantiles[:, 1]
        first, last = f"round {self.rounds[0]}", f"round {self.rounds[-1]}"
        middle = f"median {number(self.quantiles[0, 3])} after {first}, {number(self.quantiles[-1, 3])} after {last}"
        wide = f"nine tenths lay within {number(width[0])}, and at last within {number(width[-1])}"
        return (f"{self.layer}: {middle}; {wide}.",)

    def picture(self) -> Picture:
        """Bands over the rounds."""
        kept = thinned(self.quantiles[:, 3], _MOST_SHOWN)
        x, q = self.rounds[kept].astype(np.float64), self.quantiles[kept]
        layers = (
            Line(x, q[:, 0], "quiet", "smallest and largest", dashed=True),
            Line(x, q[:, 6], "quiet", "smallest and largest", dashed=True),
            *quantile_bands(x, q),
        )
        return Picture(
            f"Weights of {self.layer}",
            (Panel(self.layer, Axis("round", whole=True), Axis("weight"), layers),),
            "The line is the median of the layer's weights after a round, the bands hold half and nine tenths of them.",
            _NOT_SHOWN,
        )

    def to_columns(self) -> Columns:
        """A row a round."""
        shares = {f"at_{share}": self.quantiles[:, place].tolist() for place, share in enumerate(_SHARES)}
        return {"round": self.rounds.tolist(), **shares}


class Histograms(Result, frozen=True, kw_only=True, eq=False, tag="runs.histograms"):
    """`counts` int64 [models, bins] of one layer's weights between common `edges` [bins + 1], after `rounds` [models].

    What is not finite is left out, and counted in `not_finite` [models]. Of a large layer every `step`-th counts.
    """

    layer: str
    step: int
    rounds: Array
    edges: Array
    counts: Array
    not_finite: Array

    def describe(self) -> tuple[str, ...]:
        """How many weights of how many models, and where most lie at first and last."""
        weights = int(self.counts[0].sum() + self.not_finite[0])
        said = [
            f"{self.layer} has {counted(weights, 'weight')}; of {counted(len(self.rounds), 'round')} the model is kept."
        ]
        share = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        moved = float(np.abs(share[-1] - share[0]).sum() / 2)
        if len(self.rounds) > 1:
            first, last = self.rounds[0], self.rounds[-1]
            said.append(f"From round {first} to round {last} {percent(moved)} of the weights changed bin, at least.")
        if self.not_finite.any():
            said.append(f"{int(self.not_finite.max())} weights of a model are no number: the training diverged.")
        return tuple(said)

    def picture(self) -> Picture:
        """A line a model, early ones dark and late ones bright."""
        begins = self.edges[:-1]
        share = 100 * self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        lines = tuple(
            Line(begins, share[place], f"band:{place}/{len(self.rounds)}", f"round {self.rounds[place]}", steps=True)
            for place in range(len(self.rounds))
        )
        return Picture(
            f"Weights of {self.layer} in kept models",
            (Panel(self.layer, Axis("weight"), Axis("% of the weights"), lines),),
            "A line is a model that the server keeps: the share of its weights by value; later rounds are brighter.",
            _NOT_SHOWN,
        )

    def to_columns(self) -> Columns:
        """A row a model and bin."""
        model, bin_ = np.indices(self.counts.shape).reshape(2, -1)
        return {
            "round": self.rounds[model].tolist(),
            "from": self.edges[bin_].tolist(),
            "to": self.edges[bin_ + 1].tolist(),
            "weights": self.counts.ravel().tolist(),
        }


def spread(layers: Layers, layer: str) -> Spread:
    """Of one layer; raises `NotFound` for one that the run has not."""
    if layer not in layers.names:
        raise NotFound(
            "the run has no such layer", code="explain.layer", value=layer, limit=", ".join(layers.names[:20])
        )
    quantiles = layers.quantiles[layers.names.index(layer)]
    known = ~np.isnan(quantiles[:, 3])
    return Spread(
        lineage=layers.lineage, layer=layer, rounds=layers.rounds[known], quantiles=quantiles[known],
        caveats=(_NOT_SHOWN,),
    )  # fmt: skip


def read_weights(path: Path, layer: str) -> npt.NDArray[np.float32]:
    """One layer of a safetensors file, flat; raises `NotFound` where the file has none of this name."""
    blob = Blob(map_file(path))
    held = blob.numpy(layer).ravel()
    if blob.layout.by_name[layer].dtype == "BF16":  # the upper half of a float32, which numpy has no name for
        return (held.astype(np.uint32) << 16).view(np.float32)
    return held.astype(np.float32)


def histograms(layer: str, weights: Mapping[int, npt.NDArray[np.floating]], lineage: Lineage) -> Histograms:
    """Of one layer's weights by round, of any shape; raises `BadInput` for none, and where no weight is a number."""
    step = max(1, max((values.size for values in weights.values()), default=0) // _MOST_WEIGHTS)
    flat = {round_: np.asarray(weights[round_], np.float64).ravel()[::step] for round_ in sorted(weights)}
    finite = {round_: values[np.isfinite(values)] for round_, values in flat.items()}
    every = np.concatenate([*finite.values(), np.empty(0)])
    if not len(every):
        raise BadInput("no weight to count", code="explain.weights", value=f"{layer} of {len(weights)} models",
                       cure="Choose another layer, or a run of which the server keeps models.")  # fmt: skip
    fewest = min(len(values) for values in finite.values())
    edges = np.histogram_bin_edges(every, int(np.clip(np.sqrt(fewest), 10, _BINS)))
    return Histograms(
        lineage=lineage,
        layer=layer,
        step=step,
        rounds=np.array(list(flat), np.int64),
        edges=edges,
        counts=np.array([np.histogram(values, edges)[0] for values in finite.values()], np.int64),
        not_finite=np.array([len(flat[round_]) - len(finite[round_]) for round_ in flat], np.int64),
        caveats=(_NOT_SHOWN,),
    )
