"""Many runs beside one another: a line a run through what it was set to and what came of it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Line, Panel, Picture, names_axis
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.outcomes import Outcomes, matrix
from aimass.explain.words import counted, joined, number, shortened

__all__ = ["Parallel", "parallel"]

Floats = npt.NDArray[np.float64]
_MOST_LINES: Final = 200
_MOST_WORDS: Final = 3
_LABEL: Final = 22
_MOST_AXES: Final = 8
"""Settings that have room beside one another; of more, those that most runs have and that take most values."""
_MOST_PLAIN: Final = 30
"""Other runs that are drawn as lines like any; of more, all are faint."""
_LOG_FROM: Final = 10.0
"""Values of one sign whose largest is so many times the smallest stand on a logarithmic axis."""
_CAVEAT: Final = "That lines run together is no cause: settings that were changed together cannot be told apart."


class Parallel(Result, frozen=True, kw_only=True, eq=False, tag="runs.parallel"):
    """`values` float64 [runs, columns], NaN of what a run lacks: settings first, then the `metric`, then costs.

    Of a setting that is words a value is the place in `words` (else empty). `best` [runs] are the best third by metric.
    """

    runs: tuple[str, ...]
    columns: tuple[str, ...]
    settings: int
    words: tuple[tuple[str, ...], ...]
    values: Array
    metric: str
    best: Array

    def describe(self) -> tuple[str, ...]:
        """How many runs and settings, and what the best third has in common."""
        first = f"{counted(len(self.runs), 'run')}, which differ in {counted(self.settings, 'setting')}."
        found = [said for place in self._shown() if place < self.settings and (said := self._common(int(place)))]
        if not found or not self.best.any() or self.best.all():
            return (first,)
        return first, f"The third with the best {self.metric} has {joined(found)}; others have more of the range."

    def _common(self, place: int) -> str:
        """The range of a setting among the best third, where it is half of that of all at most."""
        known = self.values[~np.isnan(self.values[:, place])][:, place]
        best = self.values[self.best, place]
        best = best[~np.isnan(best)]
        if self.words[place] or len(best) == 0 or len(known) == 0 or np.ptp(known) <= 0:
            return ""
        scaled = _scaled(known, best)
        if np.ptp(scaled) > 0.5:
            return ""
        name = self.columns[place].rpartition(".")[2]
        low, high = float(best.min()), float(best.max())
        return f"{name} {number(low)}" if low == high else f"{name} from {number(low)} to {number(high)}"

    def picture(self) -> Picture:
        """An axis a column; the best third in front."""
        known = self._shown()
        faint = int((~self.best).sum()) > _MOST_PLAIN
        scaled = np.stack([_scaled(self.values[:, c], self.values[:, c]) for c in known], axis=1)
        at = np.arange(len(known), dtype=np.float64)
        drawn = np.concatenate([np.flatnonzero(self.best), np.flatnonzero(~self.best)])[:_MOST_LINES]
        lines = tuple(
            Line(at, scaled[run], "series:1" if self.best[run] else "quiet",
                 f"best third by {self.metric}" if self.best[run] else "other runs", faint=faint and not self.best[run])
            for run in drawn[::-1]
        )  # fmt: skip
        axis = names_axis(tuple(self._label(int(place)) for place in known))
        panel = Panel("", axis, Axis("smallest to largest", domain=(0, 1)), lines, width=900, height=340)
        return Picture(
            "Settings and what came of them",
            (panel,),
            "A line is a run: each axis goes from the smallest value of these runs to the largest, as its name says."
            + (f" Of {self.settings} settings those are drawn that most runs have." if self._hides() else ""),
            _CAVEAT,
        )

    def _hides(self) -> bool:
        return self.settings > int((self._shown() < self.settings).sum())

    def _shown(self) -> npt.NDArray[np.int64]:
        """Columns that are drawn: no setting that all runs share which have it, and `_MOST_AXES` settings at most."""
        have = ~np.isnan(self.values)
        values = np.array([len(np.unique(column[one])) for column, one in zip(self.values.T, have.T, strict=True)])
        settings = [place for place in range(self.settings) if values[place] > 1]
        settings.sort(key=lambda place: (-int(have[:, place].sum()), -int(values[place]), place))
        costs = [
            place for place in range(self.settings, len(self.columns)) if 2 * have[:, place].sum() >= len(self.runs)
        ]
        return np.array(sorted(settings[:_MOST_AXES]) + costs, np.int64)

    def _label(self, place: int) -> str:
        name, words = self.columns[place].rpartition(".")[2], self.words[place]
        values = self.values[~np.isnan(self.values[:, place]), place]
        if words:
            told = ", ".join(words[:_MOST_WORDS]) + (", …" if len(words) > _MOST_WORDS else "")
        elif values.min() == values.max():
            told = number(float(values[0]), 2)
        else:
            told = f"{number(float(values.min()), 2)} to {number(float(values.max()), 2)}"
        return f"{shortened(name, _LABEL)}\n{shortened(told, _LABEL)}"

    def to_columns(self) -> Columns:
        """A row a run."""
        cells = {name: self._cells(place) for place, name in enumerate(self.columns)}
        return {"run": self.runs, "best_third": self.best.tolist(), **cells}

    def _cells(self, place: int) -> list[object]:
        words = self.words[place]
        return [
            None if np.isnan(value) else words[int(value)] if words else float(value) for value in self.values[:, place]
        ]


def _scaled(every: Floats, values: Floats) -> Floats:
    """`values` between the smallest (0) and the largest (1) of `every`, logarithmic where that spans magnitudes."""
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    if low > 0 and high / low >= _LOG_FROM:
        low, high, values = np.log(low), np.log(high), np.log(values)
    found: Floats = (values - low) / (high - low) if high > low else np.where(np.isnan(values), np.nan, 0.5)
    return found


def parallel(outcomes: Outcomes, lineage: Lineage) -> Parallel:
    """Of runs, those with the best metric first in `best`; a run without the metric is not among them."""
    runs, objective = outcomes.runs, outcomes.objective
    costs = {
        objective.metric: [run.quality for run in runs],
        "epsilon": [run.epsilon for run in runs],
        "bytes": [run.bytes or None for run in runs],
        "seconds": [run.seconds for run in runs],
    }
    came = np.array(list(costs.values()), np.float64).T
    quality = objective.sign * came[:, 0]
    enough = np.nanquantile(quality, 2 / 3) if not np.isnan(quality).all() else np.nan
    words = tuple(_words([run.settings.get(name) for run in runs]) for name in outcomes.varied)
    return Parallel(
        lineage=lineage,
        runs=tuple(f"{run.name} {run.run}" for run in runs),
        columns=(*outcomes.varied, *costs),
        settings=len(outcomes.varied),
        words=(*words, *(() for _ in costs)),
        values=np.concatenate([matrix(outcomes, outcomes.varied), came], axis=1),
        metric=objective.metric,
        best=np.nan_to_num(quality, nan=-np.inf) >= enough,
        caveats=(_CAVEAT,),
    )


def _words(values: list[object]) -> tuple[str, ...]:
    """The words that `matrix` counts places in; none of numbers."""
    if all(value is None or isinstance(value, bool | int | float) for value in values):
        return ()
    return tuple(sorted({str(value) for value in values if value is not None}))
