"""What a run cost in differential privacy, at each partner as far as its server sees it."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Rule, names_axis
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.readings import lineage_of_run
from aimass.explain.words import number
from aimass.privacy.dp.spending import planned_spent, spent_by, spent_by_partner
from aimass.proto.registry.entries import Spent
from aimass.proto.views import RunView

__all__ = ["Spending", "planned_and_spent", "spending", "told_spent"]

_MOST_SHOWN: Final = 40
_ACCOUNTANTS: Final = {"pld": "privacy loss distributions", "rdp": "Rényi accounting"}
_NOT_SHOWN: Final = (
    "This is the run alone, by the steps that partners were asked for. What they spent in all, their ledgers alone say."
)


class Spending(Result, frozen=True, kw_only=True, eq=False, tag="runs.privacy"):
    """`whole` is of a partner asked in every step, `epsilon` float64 [partners] of each, NaN of no promise."""

    whole: Spent
    partners: tuple[str, ...]
    epsilon: Array

    def describe(self) -> tuple[str, ...]:
        """The figure with all that it depends on, and who spent most and least."""
        said = f"The run promises {told_spent(self.whole)}."
        known = np.flatnonzero(~np.isnan(self.epsilon))
        if len(known) < 2 or np.ptp(self.epsilon[known]) <= 0:
            return (said,)
        most, least = (int(known[pick(self.epsilon[known])]) for pick in (np.argmax, np.argmin))
        apart = (
            f"{self.partners[most]} {number(self.epsilon[most])}, {self.partners[least]} {number(self.epsilon[least])}"
        )
        return said, f"By the steps that each was asked for it is {apart}."

    def picture(self) -> Picture:
        """A bar a partner, those that spent most on top; of very many the distribution."""
        panel = self._each() if len(self.partners) <= _MOST_SHOWN else self._many()
        return Picture(
            "What the run cost in privacy",
            (panel,),
            f"Epsilon for one {self.whole.unit or 'unit'}: the smaller, the less anybody can learn of a single one.",
            _NOT_SHOWN,
        )

    def _each(self) -> Panel:
        order = np.argsort(-np.nan_to_num(self.epsilon), kind="stable")
        bars = Bars(np.arange(len(order)), np.nan_to_num(self.epsilon[order]))
        rule = () if self.whole.epsilon is None else (Rule(self.whole.epsilon, says="asked in every step"),)
        names = tuple(self.partners[place] for place in order)
        return Panel("", Axis("epsilon"), names_axis(names), (bars, *rule))

    def _many(self) -> Panel:
        known = self.epsilon[~np.isnan(self.epsilon)]
        counts, edges = np.histogram(known, bins=20) if len(known) else (np.zeros(1), np.arange(2.0))
        names = tuple(f"{number(low)} to {number(high)}" for low, high in itertools.pairwise(edges))
        bars = Bars(np.arange(len(counts)), counts.astype(np.float64))
        return Panel("partners by epsilon", Axis("partners"), names_axis(names), (bars,))

    def to_columns(self) -> Columns:
        """A row a partner."""
        return {
            "partner": self.partners,
            "epsilon": [None if np.isnan(one) else float(one) for one in self.epsilon],
            "delta": [self.whole.delta] * len(self.partners),
            "unit": [self.whole.unit] * len(self.partners),
        }


def spending(run: RunView) -> Spending:
    """Of a run as its owner sees it, so far."""
    by_partner = spent_by_partner(run)
    figures = [np.nan if one.epsilon is None else one.epsilon for one in by_partner.values()]
    return Spending(
        lineage=lineage_of_run(run),
        whole=spent_by(run),
        partners=tuple(by_partner),
        epsilon=np.array(figures, np.float64),
        caveats=(_NOT_SHOWN,),
    )


def told_spent(spent: Spent) -> str:
    """As a person may quote it: never an epsilon without what it is of."""
    if spent.epsilon is None:
        return f"nothing of privacy: {spent.reason or 'nobody stated a figure'}"
    by = _by(spent)
    of = f", {spent.reason}" if spent.reason else ""
    return f"epsilon {number(spent.epsilon)} at delta {spent.delta or 0:g} for one {spent.unit}, by {by}{of}"


def _by(spent: Spent) -> str:
    return _ACCOUNTANTS.get(spent.accountant, spent.accountant)


def planned_and_spent(run: RunView) -> str:
    """Why the plan's figure, which `exposure` tells, and the one that was spent differ; empty where they are alike.

    They may differ by the steps, as the plan's are all that there can be, and by the accountant, as the plan's is the
    quick one. Both are made without the model: rounding inside secure sums is in both, or in none.
    """
    quick, exact, spent = planned_spent(run.plan, 1, quick=True), planned_spent(run.plan, 1), spent_by(run)
    if quick.epsilon is None or exact.epsilon is None or spent.epsilon is None:
        return ""
    planned, whole, now = (number(one) for one in (quick.epsilon, exact.epsilon, spent.epsilon))
    if planned == now:
        return ""
    told = [f"Planned is epsilon {planned} at most, spent is {now}."]
    if now != whole:
        until = "until the run ended" if run.summary.state.final else "so far"
        more = "" if spent.epsilon < exact.epsilon else ", some of which were taken again"
        told.append(f"The plan's is of all its steps, what was spent of those taken {until}{more}.")
    if planned != whole:
        told.append(
            f"The plan's is by {_by(quick)}, which is quick and bounds from above; by {_by(exact)}, which bound more "
            f"sharply, the whole plan costs {whole}."
        )
    return " ".join(told)
