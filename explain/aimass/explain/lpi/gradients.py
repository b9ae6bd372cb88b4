"""Integrated gradients of a task's network over a table, beside the exact values: two ways that should agree.

captum integrates (Sundararajan et al. 2017) from each reference of the background to the row, in the space that the
network's preprocessing puts out: a category has no gradient of its own, its one-hot code has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Points, Rule, names_axis
from aimass.explain.lpi.attribution import SHOWS_NOT, Attribution
from aimass.explain.lpi.cells import cells_of
from aimass.explain.lpi.game import Game
from aimass.explain.lpi.scale import Scale, axis_title, change
from aimass.explain.models import Model
from aimass.explain.networks import TableNetwork
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.words import percent
from aimass.explain.work import Work

if TYPE_CHECKING:
    import torch

__all__ = [
    "COMPLETENESS",
    "Gradients",
    "completeness",
    "gradients",
    "incompleteness",
    "network_of_table",
    "until_complete",
]

COMPLETENESS: Final = 0.01
"""By more of f(x) - f(baseline) may the sum of attributions not miss it."""
_SMALL: Final = 1e-3
"""A change of the prediction below this is none: the error is then told against it."""
_MOST_BARS: Final = 14
_MOST_STEPS: Final = 1024


class Gradients(Result, frozen=True, kw_only=True, eq=False, tag="lpi.gradients"):
    """`values` [groups] integrated over `steps` from each reference, `shapley` [groups] beside them.

    `incomplete` is how far their sum is from the prediction less the average, as a share of it.
    """

    row: int
    output: str
    scale: Scale
    names: tuple[str, ...]
    cells: tuple[str, ...]
    values: Array
    shapley: Array
    steps: int
    incomplete: float

    @property
    def rows_held(self) -> int:
        """The one that is explained."""
        return 1

    def describe(self) -> tuple[str, ...]:
        """Which features have the largest values, and how complete they are."""
        order = np.argsort(-np.abs(self.values), kind="stable")[:3]
        told = "; ".join(f"{self.names[p]} = {self.cells[p]}: {change(self.values[p], self.scale)}" for p in order)
        return (
            f"By integrated gradients: {told}.",
            f"Their sum misses the change of the prediction by {percent(self.incomplete)} of it ({self.steps} steps).",
        )

    def picture(self) -> Picture:
        """Bars of gradients, dots of exact values."""
        shown = np.argsort(-np.maximum(np.abs(self.values), np.abs(self.shapley)), kind="stable")[:_MOST_BARS]
        at = np.arange(len(shown))
        names = tuple(f"{self.names[p]} = {self.cells[p]}" for p in shown)
        layers = (
            Bars(at, self.values[shown], series="integrated gradients"),
            Points(self.shapley[shown], at, "series:1", "Shapley values", size=70),
            Rule(0.0),
        )
        axis = Axis(f"value: {axis_title(self.output, self.scale)}, less the average")
        return Picture(
            "By gradients",
            (Panel("", axis, names_axis(names), layers),),
            "What each feature adds: along straight paths (bars), and over all orders of the features (dots).",
            SHOWS_NOT,
        )

    def to_columns(self) -> Columns:
        """A line a feature."""
        return {
            "feature": self.names,
            "cell": self.cells,
            "value": self.values.tolist(),
            "shapley": self.shapley.tolist(),
        }


def network_of_table(model: Model) -> TableNetwork | None:
    """The network behind a model of tables, or None of a bare function, or of trees."""
    return getattr(model, "network", None)


def gradients(
    model: Model, network: TableNetwork, game: Game, rows: Rows, found: Attribution, steps: int, work: Work
) -> Gradients:
    """Integrated gradients of the row that `found` is of, from each reference of the game's background.

    The mean of the integrals has the background's mean prediction as its base, as Shapley values have.
    """
    import torch  # noqa: PLC0415
    from captum.attr import LayerIntegratedGradients  # noqa: PLC0415

    place = model.outputs.index(game.output)
    cells, references = cells_of(rows, found.row), game.background.values
    forward = _forward(network, place, game.scale)
    share = game.background.weights / game.background.weights.sum()
    along = LayerIntegratedGradients(forward, network.layer)
    width = sum(map(len, network.columns))
    sums = np.zeros(width)
    ends = 0.0
    for part in work.chunks(len(references), 64 * steps * width):
        work.check()
        z = references[part]
        here, there = network.inputs(np.tile(cells, (len(z), 1))), network.inputs(z)
        with torch.enable_grad():
            each = along.attribute(here, baselines=there, n_steps=steps, internal_batch_size=4096)
        with torch.no_grad():
            ends += float(share[part] @ (forward(*here) - forward(*there)).double().numpy())
        sums += share[part] @ each.detach().double().numpy()
        work.tell(part.stop / len(references), "integrated gradients")
    values = np.array([sums[network.columns_of(group.columns)].sum() for group in game.groups])
    incomplete = completeness(float(values.sum()), ends)
    return Gradients(
        lineage=game.lineage,
        row=found.row,
        output=game.output,
        scale=game.scale,
        names=found.names,
        cells=found.cells,
        values=values,
        shapley=found.values,
        steps=steps,
        incomplete=incomplete,
        checks=(incompleteness(incomplete),),
    )


def _forward(network: TableNetwork, place: int, scale: Scale) -> Callable[..., torch.Tensor]:
    """The one output on its scale, float64 [n]."""

    def forward(*arguments: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = network.module(*arguments).double()
        if scale == "number":
            return said[:, place]
        sure: torch.Tensor = said.log_softmax(dim=1)[:, place]
        return sure.exp() if scale == "probability" else sure - (-sure.expm1()).log()

    return forward


def completeness(total: float, change: float) -> float:
    """How far a sum of attributions is from f(x) - f(baseline), as a share of it."""
    return abs(total - change) / max(abs(change), _SMALL)


def until_complete(
    attribute: Callable[[int], torch.Tensor], change: float, steps: int
) -> tuple[torch.Tensor, float, int]:
    """What `attribute` gives in so many steps, what its sum misses, and the steps: doubled up to 1,024 if need be."""
    while True:
        found = attribute(steps)
        missed = completeness(float(found.sum()), change)
        if missed <= COMPLETENESS or steps >= _MOST_STEPS:
            return found, missed, steps
        steps *= 2


def incompleteness(error: float) -> Check:
    """More than 1 % is a warning."""
    return Check(
        name="The attributions sum to the change of the prediction",
        error=error,
        limit=COMPLETENESS,
        says="More steps may help; a function that jumps cannot be integrated so.",
    )
