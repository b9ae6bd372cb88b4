"""Whether the values tell what moves the prediction: features taken away, or put in, in their order and in any other.

Deletion and insertion curves (Petsiuk et al. 2018), a feature that is away having the background's cells in turn.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Band, Line, Panel, Picture
from aimass.explain.lpi.attribution import Attribution
from aimass.explain.lpi.cells import cells_of
from aimass.explain.lpi.game import Game
from aimass.explain.lpi.scale import Scale, axis_title
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.words import percent
from aimass.explain.work import Work

__all__ = ["Faithfulness", "faithfulness"]

_MOST_STEPS: Final = 24
_HALF: Final = 0.5


class Faithfulness(Result, frozen=True, kw_only=True, eq=False, tag="lpi.faithfulness"):
    """The prediction after `share` [steps] of the features are taken away (`deleted`), or put in (`inserted`).

    `deleted` and `inserted` [steps] are in the order of the values, what pushes towards the prediction first;
    `random_deleted` and `random_inserted` [orders, steps] in random orders. `beaten` are the shares of random orders
    whose mean prediction over the steps falls (or rises) further.
    """

    row: int
    output: str
    scale: Scale
    said: float
    base: float
    share: Array
    deleted: Array
    inserted: Array
    random_deleted: Array
    random_inserted: Array
    beaten: tuple[float, float]

    @property
    def rows_held(self) -> int:
        """The one that is explained."""
        return 1

    def describe(self) -> tuple[str, ...]:
        """How the order of the values does against random ones."""
        away, put = (percent(1.0 - share) for share in self.beaten)
        said = f"at least as fast as {away} of {len(self.random_deleted)} random orders when they are taken away"
        return (f"In the order of their values features move the prediction {said}, as {put} when they are put in.",)

    def picture(self) -> Picture:
        """Both curves, with the range of random orders."""
        return Picture(
            "Do the values tell what moves the prediction?",
            (
                self._panel("Taken away", "features taken away (%)", self.deleted, self.random_deleted),
                self._panel("Put in", "features put in (%)", self.inserted, self.random_inserted),
            ),
            "In the order of the values the line should leave the band: sooner at the average, or at the prediction.",
            "A curve judges the order alone, with features of other rows in the place of those taken away.",
            columns=2,
        )

    def _panel(self, title: str, along: str, ordered: Array, random: Array) -> Panel:
        x = 100 * self.share
        low, high = np.quantile(random, (0.05, 0.95), axis=0)
        layers = (
            Band(x, low, high, "quiet", "90 % of random orders"),
            Line(x, random.mean(axis=0), "quiet", "their mean", dashed=True),
            Line(x, ordered, "series:1", "order of the values"),
        )
        return Panel(title, Axis(along), Axis(axis_title(self.output, self.scale)), layers, width=320, height=240)

    def to_columns(self) -> Columns:
        """A line a step."""
        return {
            "share": self.share.tolist(),
            "deleted": self.deleted.tolist(),
            "inserted": self.inserted.tolist(),
            "random_deleted": self.random_deleted.mean(axis=0).tolist(),
            "random_inserted": self.random_inserted.mean(axis=0).tolist(),
        }


def faithfulness(game: Game, rows: Rows, found: Attribution, orders: int, work: Work) -> Faithfulness:
    """The curves of the row that `found` is of, against so many random orders."""
    cells = cells_of(rows, found.row)
    number = len(found.values)
    towards = 1.0 if found.said >= found.base else -1.0
    ranked = np.argsort(-towards * found.values, kind="stable")
    rng = work.rng("lpi", "faithfulness", found.row)
    all_orders = np.stack([ranked, *(rng.permutation(number) for _ in range(orders))])
    counts = np.unique(np.linspace(0, number, min(number, _MOST_STEPS) + 1).round().astype(int))
    ranks = np.argsort(all_orders, axis=1)
    first = ranks[:, None, :] < counts[None, :, None]  # [orders, steps, groups]: among the first so many
    worths = game.worths(cells, np.stack([~first, first]).reshape(-1, number), work)
    deleted, inserted = worths.reshape(2, len(all_orders), len(counts))
    beaten = (_share(-towards * deleted), _share(towards * inserted))
    return Faithfulness(
        lineage=game.lineage,
        row=found.row,
        output=game.output,
        scale=game.scale,
        said=found.said,
        base=found.base,
        share=counts / number,
        deleted=deleted[0],
        inserted=inserted[0],
        random_deleted=deleted[1:],
        random_inserted=inserted[1:],
        beaten=beaten,
        checks=tuple(
            Check(name=f"Random orders that move the prediction faster, features {way}", error=share, limit=_HALF)
            for way, share in zip(("taken away", "put in"), beaten, strict=True)
        ),
    )


def _share(curves: npt.NDArray[np.float64]) -> float:
    """How many of the orders after the first have a larger mean over the steps, beyond rounding."""
    means = curves.mean(axis=1)
    return float((means[1:] > means[0] + 1e-9).mean())
