"""The question of this package, asked and answered as a whole: why does the model predict this?"""

from __future__ import annotations

from collections.abc import Mapping

from aimass.explain.charts.picture import Picture
from aimass.explain.lpi.attribution import Attribution, attribution
from aimass.explain.lpi.game import game_of
from aimass.explain.lpi.options import LpiOptions
from aimass.explain.models import Model
from aimass.explain.results import Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.work import Work

__all__ = ["LpiResult", "explain"]


class LpiResult(Result, frozen=True, kw_only=True, eq=False, tag="lpi"):
    """All that is said of one row's prediction."""

    attribution: Attribution

    def views(self) -> Mapping[str, Result]:
        """The parts by name, those that were asked for."""
        return {"attribution": self.attribution}

    def describe(self) -> tuple[str, ...]:
        """What the parts say, one after another."""
        return tuple(line for part in self.views().values() for line in part.describe())

    def picture(self) -> Picture:
        """The first that a reader wants: the waterfall."""
        return self.attribution.picture()

    def to_columns(self) -> Columns:
        """The values by feature; the parts have their own tables."""
        return self.attribution.to_columns()

    def warnings(self) -> tuple[str, ...]:
        """Of all parts, each once."""
        said = (*super().warnings(), *(line for part in self.views().values() for line in part.warnings()))
        return tuple(dict.fromkeys(said))


def explain(
    model: Model,
    rows: Rows,
    options: LpiOptions = LpiOptions(),
    work: Work = Work(),
    *,
    background: Rows | None = None,
) -> LpiResult:
    """Why `model` predicts what it does for one row of `rows`, held against `background` or `rows` themselves.

    Raises `BadInput` for a row that is none, columns that differ, an empty background, a model that answers what is no
    number; `LimitExceeded` for more features than can be computed exactly where that was asked.
    """
    game = game_of(model, rows, work, options, background=background)
    found = attribution(game, rows, options.row, work)
    return LpiResult(lineage=game.lineage, attribution=found)
