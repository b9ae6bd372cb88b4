"""The way of a model through the space of its parameters, in the plane that shows most of it.

Positions are sums of the steps' count sketches, a random projection that keeps distances but for about one part in
the square root of the buckets (Charikar et al. 2002): the plane is that of principal components of those.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Line, Panel, Picture, Points
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.readings import learning, lineage_of_run, summaries
from aimass.explain.words import number, percent
from aimass.proto.errors import WrongState
from aimass.proto.views import RunView

__all__ = ["Trajectory", "trajectory"]

Floats = npt.NDArray[np.float64]
_MOST_SHOWN: Final = 1_000
"""Models that are drawn; of more, so many that are evenly apart."""
_PLANE = (
    "A plane shows what of the way lies in it: two rounds that look close may lie far apart across it. Two runs cannot "
    "be compared here, as each has a plane of its own."
)


class Trajectory(Result, frozen=True, kw_only=True, eq=False, tag="runs.trajectory"):
    """`at` float64 [steps + 1, 2]: the first model, then the model after each training step of round `rounds` [steps].

    `shares` [2] is how much of the variance of the positions lies along each axis.
    """

    rounds: Array
    at: Array
    shares: Array
    length: float
    straight: float

    def describe(self) -> tuple[str, ...]:
        """How straight the way was, and how much of it the plane shows."""
        share = percent(self.straight / max(self.length, 1e-300))
        way = f"The changes of {len(self.rounds)} rounds together are {number(self.length)} long"
        return (
            f"{way} and lead {number(self.straight)} away from the first model: {share} of a straight line.",
            f"The plane shows {percent(float(self.shares.sum()))} of how the models differ.",
        )

    def picture(self) -> Picture:
        """The way, coloured by round."""
        shown = np.unique(np.linspace(0, len(self.at) - 1, min(len(self.at), _MOST_SHOWN)).astype(np.int64))
        x, y = self.at[shown].T
        after = np.concatenate([[0], self.rounds]).astype(np.float64)[shown]
        layers = (Line(x, y, "quiet"), Points(x, y, shade=after, shade_title="round", size=40))
        axes = [Axis(f"component {place + 1} ({percent(float(share))})") for place, share in enumerate(self.shares)]
        return Picture(
            "Way of the model",
            (Panel("", axes[0], axes[1], layers, height=360),),
            "A dot is the model after a round; the first is the model that the run began with.",
            _PLANE,
        )

    def to_columns(self) -> Columns:
        """A row a model."""
        return {"round": [0, *self.rounds.tolist()], "x": self.at[:, 0].tolist(), "y": self.at[:, 1].tolist()}


def trajectory(run: RunView) -> Trajectory:
    """Of a run's training steps; raises `WrongState` where there are fewer than two."""
    steps = learning(run)
    if len(steps) < 2:
        raise WrongState(
            "a way needs two rounds that changed the model",
            code="explain.no_training",
            value=len(steps),
            limit="2 or more",
            cure="Choose a run that has trained longer.",
        )
    sketches = np.array([summary.sketch for summary in summaries(run)])
    positions = np.concatenate([np.zeros((1, sketches.shape[1])), np.cumsum(sketches, axis=0)])
    at, shares = principal_plane(positions)
    return Trajectory(
        lineage=lineage_of_run(run),
        rounds=np.array([step.round for step in steps], np.int64),
        at=at,
        shares=shares,
        length=float(sum(summary.norm for summary in summaries(run))),
        straight=float(summaries(run)[-1].drift),
        caveats=(_PLANE,),
    )


def principal_plane(positions: Floats) -> tuple[Floats, Floats]:
    """Coordinates [n, 2] along the first two principal components, and the shares of the variance along them.

    Each component points to where its largest coordinate is positive, so that the picture does not flip by chance.
    """
    centred = positions - positions.mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    at = left[:, :2] * scale[:2]
    at = np.pad(at, ((0, 0), (0, 2 - at.shape[1])))
    signs = np.sign(at[np.abs(at).argmax(axis=0), range(2)])
    total = float((scale**2).sum())
    shares = np.pad(scale[:2] ** 2, (0, 2 - len(scale[:2]))) / (total if total > 0 else 1.0)
    found: Floats = at * np.where(signs == 0, 1.0, signs)
    return found, shares
