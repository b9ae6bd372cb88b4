"""Which features the model's held-out loss hangs on: permutation importance with intervals, groups, and ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aimass.explain.association import clusters
from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Rule, names_axis
from aimass.explain.gap.inference import drawn_means, error_of_mean, interval95, rank_intervals
from aimass.explain.gap.permutation import Increase, permutation_importance
from aimass.explain.gap.pricing import checked_loss
from aimass.explain.lineage import Lineage
from aimass.explain.lpi.groups import Group, groups_of
from aimass.explain.models import Model, lineage_of
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.words import interval, joined, number
from aimass.explain.work import Work

__all__ = ["Importance", "importance"]

_MOST_BARS = 20
_NAMED = 3
_SHUFFLE_SHARE = 0.5
"""More of an interval than this must not come from having shuffled too seldom."""
SHOWS_NOT = (
    "Importance is what this model's loss rises by, not what would happen in the world: a feature that causes the"
    " outcome has none where the model does not use it, or where another feature stands in for it."
)


class Importance(Result, frozen=True, kw_only=True, eq=False, tag="gap.importance"):
    """`names` [entries] are of features, or of columns that are one feature, then of what tells the same; `members`
    are the columns of each.

    `value`, `low`, `high`, `error` [entries] are in the loss's units, the interval of 95 % over rows and shuffles.
    `best` and `worst` [features] are the ranks that a single feature may have. `exact` [entries] says where all pairs
    of rows were computed.
    """

    loss: str
    base: float
    base_low: float
    base_high: float
    shuffles: int
    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    value: Array
    low: Array
    high: Array
    error: Array
    best: Array
    worst: Array
    exact: Array

    @property
    def single(self) -> int:
        """How many entries are single features: they come first."""
        return len(self.best)

    def order(self) -> list[int]:
        """The single features, the most important first."""
        return [int(place) for place in np.argsort(-self.value[: self.single], kind="stable")]

    def top(self, count: int) -> tuple[str, ...]:
        """The columns of the most important features, `count` of them at most."""
        return tuple(name for place in self.order() for name in self.members[place])[:count]

    def describe(self) -> tuple[str, ...]:
        """What matters most, what cannot be told from nothing, and what groups add."""
        order, unit = self.order(), _unit(self.loss)
        matter = [place for place in order if self.low[place] > 0]
        whole = f"{number(self.base)} ({interval(self.base_low, self.base_high)})"
        lines = [f"{_whose(self.lineage)} {_words(self.loss)} is {whole}."]
        for place in matter[:_NAMED]:
            ranks = self.best[place], self.worst[place]
            rank = f"rank {ranks[0]}" if ranks[0] == ranks[1] else f"rank {ranks[0]} to {ranks[1]}"
            lines.append(
                f"Shuffling {self.names[place]} raises it by {number(self.value[place])}{unit}"
                f" ({interval(self.low[place], self.high[place])}), {rank} of {self.single}."
            )
        rest = [self.names[place] for place in order if self.low[place] <= 0]
        if rest:
            lines.append(f"Not told from nothing: {joined(rest)}.")
        lines += [
            f"{self.names[place]} shuffled together raise it by {number(self.value[place])}"
            f" ({interval(self.low[place], self.high[place])})."
            for place in range(self.single, len(self.value))
        ]
        return tuple(lines)

    def picture(self) -> Picture:
        """Bars with whiskers, the most important on top, groups below."""
        order = self.order()
        shown = order[:_MOST_BARS]
        panels = [self._panel("Each feature alone", shown)]
        if len(self.value) > self.single:
            panels.append(self._panel("Features that tell the same, together", range(self.single, len(self.value))))
        left = f" The {len(order) - len(shown)} least are left out." if len(order) > len(shown) else ""
        return Picture(
            "What the model's loss hangs on",
            tuple(panels),
            f"A bar is how much the {_words(self.loss)} rises when the feature is shuffled; its line is the 95 %"
            f" interval.{left}",
            SHOWS_NOT,
        )

    def _panel(self, title: str, places: list[int] | range) -> Panel:
        at = np.asarray(places)
        names = tuple(self.names[place] for place in places)
        says = tuple(
            f"{self.names[place]}: {number(self.value[place])} ({interval(self.low[place], self.high[place])})"
            + (f", rank {self.best[place]} to {self.worst[place]}" if place < self.single else "")
            for place in places
        )
        bars = Bars(np.arange(len(at)), self.value[at], self.low[at], self.high[at], says=says)
        unit = f" ({_unit(self.loss).strip()})" if _unit(self.loss) else ""
        axis = Axis(f"rise of the {_words(self.loss)}{unit}")
        return Panel(title, axis, names_axis(names), (bars, Rule(0.0)))

    def to_columns(self) -> Columns:
        """A row an entry; ranks of single features alone."""
        blank = [""] * (len(self.value) - self.single)
        return {
            "feature": self.names,
            "importance": self.value.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "standard_error": self.error.tolist(),
            "rank_low": self.best.tolist() + blank,
            "rank_high": self.worst.tolist() + blank,
            "all_pairs": self.exact.tolist(),
        }


def importance(
    model: Model,
    rows: Rows,
    work: Work,
    *,
    loss: str = "",
    shuffles: int = 30,
    draws: int = 10_000,
    correlated: float = 0.7,
    groups: Sequence[str] = (),
) -> Importance:
    """Of every feature, and of features together that are associated by `correlated` or more.

    `groups` are columns that are one feature, written as name=column,column; one-hot columns are found.
    """
    lineage, priced_by = lineage_of(model, rows, work), checked_loss(model, rows, loss)
    singles = groups_of(rows, groups)
    alike = tuple(_together(singles, cluster) for cluster in clusters(rows, correlated))
    entries = (*singles, *(group for group in alike if group is not None))
    base, rises = permutation_importance(
        model, rows, [entry.columns for entry in entries], priced_by, work, shuffles=shuffles
    )
    value, error = (np.array([getattr(rise, name) for rise in rises]) for name in ("value", "error"))
    low, high = interval95(value, error, len(rows))
    influence = np.stack([rise.influence for rise in rises[: len(singles)]], axis=1)
    best, worst = rank_intervals(value[: len(singles)], drawn_means(influence, work.rng("gap", "ranks"), draws))
    base_low, base_high = interval95(base.mean(), error_of_mean(base), len(rows))
    return Importance(
        lineage=lineage,
        caveats=_caveats(rows, entries[len(singles) :], correlated),
        checks=_checks(rises),
        loss=priced_by,
        base=float(base.mean()),
        base_low=float(base_low),
        base_high=float(base_high),
        shuffles=shuffles,
        names=tuple(entry.name for entry in entries),
        members=tuple(tuple(rows.features[column].name for column in entry.columns) for entry in entries),
        value=value,
        low=low,
        high=high,
        error=error,
        best=best,
        worst=worst,
        exact=np.array([rise.exact for rise in rises]),
    )


def _together(singles: Sequence[Group], cluster: Sequence[int]) -> Group | None:
    """The features that have a column of the cluster as one group; None where they are one feature already."""
    parts = [group for group in singles if set(group.columns) & set(cluster)]
    if len(parts) < 2:
        return None
    return Group(" + ".join(part.name for part in parts), tuple(sorted(c for part in parts for c in part.columns)))


def _checks(rises: tuple[Increase, ...]) -> tuple[Check, ...]:
    shares = [rise.shuffle_error / rise.error for rise in rises if rise.error > 0]
    return (
        Check(
            name="shuffles",
            error=max(shares, default=0.0),
            limit=_SHUFFLE_SHARE,
            says="This share of an interval's width comes from the shuffles: ask for more of them.",
        ),
    )


def _caveats(rows: Rows, alike: Sequence[Group], least: float) -> tuple[str, ...]:
    said = [SHOWS_NOT]
    if rows.held_out is False:
        said.append("The model was trained on these rows: what it learnt by heart counts as important.")
    elif rows.held_out is None:
        said.append("Nobody said whether the model was trained on these rows; if it was, importance is flattered.")
    said += [
        f"{group.name} tell the same (association {least:g} or more): alone, each looks less important than it is."
        for group in alike
    ]
    constant = [
        feature.name
        for place, feature in enumerate(rows.features)
        if len(np.unique(rows.values[:, place], equal_nan=True)) == 1
    ]
    if constant:
        said.append(f"{joined(constant)} {'is' if len(constant) == 1 else 'are'} the same in all rows: 0 says nothing.")
    said += [
        f"{feature.name} has values that are none of the known ones: what the model says of them is not known either."
        for place, feature in enumerate(rows.features)
        if feature.kind == "category" and _unknown(rows.values[:, place], len(feature.values))
    ]
    if len(rows) < 100:
        said.append(f"{len(rows)} rows are few: such intervals are somewhat too short.")
    if rows.classes and len(np.unique(rows.need_labels())) == 1:
        said.append("All rows have one label: the loss says nothing of telling it from others.")
    return tuple(said)


def _unknown(cells: Array, values: int) -> bool:
    return bool(values and (cells >= values).any())


def _whose(lineage: Lineage) -> str:
    return {True: "The model's held-out", False: "On its training rows the model's", None: "The model's"}[
        lineage.held_out
    ]


def _words(loss: str) -> str:
    return loss.replace("_", " ")


def _unit(loss: str) -> str:
    return " nats" if loss == "log_loss" else ""
