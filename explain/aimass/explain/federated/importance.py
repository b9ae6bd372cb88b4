"""How much each feature matters over all partners' rows: one number a feature, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Rule, names_axis
from aimass.explain.federated.sums import Floats, Release
from aimass.explain.gap.inference import interval95
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Columns, Result
from aimass.explain.rows import Feature
from aimass.explain.words import interval, joined, number

__all__ = ["FederatedImportance"]

_MOST_BARS = 20


class FederatedImportance(Result, frozen=True, kw_only=True, eq=False, tag="federated.importance"):
    """`value`, `low` and `high` [features] in the unit of `measure`; the interval is of 95 %, over rows and noise."""

    measure: str
    features: tuple[str, ...]
    value: Array
    low: Array
    high: Array
    rows: float
    release: Release

    @classmethod
    def of(
        cls,
        *,
        lineage: Lineage,
        caveats: tuple[str, ...],
        measure: str,
        features: Sequence[Feature],
        value: Floats,
        error: Floats,
        rows: float,
        release: Release,
    ) -> Self:
        """With the interval about each value, whose error was found from so many rows."""
        low, high = interval95(value, error, round(rows))
        return cls(
            lineage=lineage,
            caveats=caveats,
            measure=measure,
            features=tuple(feature.name for feature in features),
            value=value,
            low=low,
            high=high,
            rows=rows,
            release=release,
        )

    def order(self) -> list[int]:
        """The features, the most important first; what is unknown last."""
        return [int(place) for place in np.argsort(-np.nan_to_num(self.value, nan=-np.inf), kind="stable")]

    def describe(self) -> tuple[str, ...]:
        """What matters most, and what cannot be told from nothing."""
        order = self.order()
        matter = [place for place in order if self.low[place] > 0]
        said = [f"Over {number(self.rows, 6)} rows at {self.release.partners} partners, {self.measure}:"]
        said += [
            f"{self.features[place]} {number(self.value[place])} ({interval(self.low[place], self.high[place])})"
            for place in matter[:5]
        ]
        rest = [self.features[place] for place in order if place not in matter]
        return (*said, *([f"Not told from nothing: {joined(rest)}."] if rest else []))

    def picture(self) -> Picture:
        """Bars with whiskers, the most important on top."""
        shown = self.order()[:_MOST_BARS]
        at = np.arange(len(shown), dtype=np.float64)
        says = tuple(f"{self.features[place]}: {number(self.value[place])}" for place in shown)
        bars = Bars(at, self.value[shown], self.low[shown], self.high[shown], says=says)
        names = names_axis(tuple(self.features[place] for place in shown))
        left = len(self.value) - len(shown)
        return Picture(
            "What the model uses, over all partners' rows",
            (Panel("", Axis(self.measure), names, (bars, Rule(0.0))),),
            "A bar is a feature; its line is the 95 % interval." + (f" The {left} least are left out." if left else ""),
            " ".join(self.caveats),
        )

    def to_columns(self) -> Columns:
        """A line a feature."""
        return {
            "feature": self.features,
            "value": self.value.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }
