"""The tied set: all settings that cannot be told from the best, by runs that differ in their seeds.

A setting leaves the set where some other one is better than chance allows. Each is held against every other, so the
p-values of one setting are corrected for as many (Holm 1979): whatever the differences are, the best setting stays in
the set in 95 % of cases (Gupta 1965, "subset selection"). Differences over the same seeds are paired, and how much
chance allows is told in two ways, at half the level each: by the pair itself, which is sharp where two settings answer
to seeds alike; and by all settings that share their seeds (`spread`, after Smyth 2004), which is sharp where they
spread alike. Where they do, the latter is the pooled variance of Gupta's and Hsu's (1984) procedures. These hold for no
other case: a best setting that spreads as three others would leave their sets too often.

Shares of few rows come in steps: two seeds may differ by the same step by chance, and seem to have no spread at all. A
difference is held to spread by what rounding to the step does at least.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Panel, Picture, Rule, Spans, names_axis, names_height
from aimass.explain.lineage import Lineage
from aimass.explain.means import mean_interval
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.outcomes import Objective, Outcomes
from aimass.explain.runs.spread import shared_spread
from aimass.explain.significance import holm
from aimass.explain.words import in_lines, joined, number, percent
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["TiedSet", "better_p", "tied_set", "worse_p"]

Floats = npt.NDArray[np.float64]
LEVEL: Final = 0.05
_RESAMPLES: Final = 2_000
_FEWEST_SEEDS: Final = 2
_ENOUGH: Final = 3.0
"""Degrees of freedom from which no spread at all is believed."""
_MOST_LINES: Final = 4
"""A setting's name beside the picture: its values tell it from others."""
_ROUNDING: Final = 1e-9
_CAVEAT: Final = (
    "The set holds for these runs' data and seeds. Settings in it may still differ by less than these seeds can tell."
)


class TiedSet(Result, frozen=True, kw_only=True, eq=False, tag="runs.tied"):
    """Settings, best mean first. `mean`, `low`, `high` float64 [k] are the metric, with 95 % intervals (NaN: one seed),
    which of a share are cut off at 0 and 1.

    `tied` [k] are those in the set; `p` [k] the corrected p-value that somebody is better. `best` [k] is the share of
    resamples of the seeds in which the setting had the best mean.
    """

    metric: str
    better: str
    settings: tuple[str, ...]
    seeds: Array
    mean: Array
    low: Array
    high: Array
    p: Array
    tied: Array
    best: Array

    def describe(self) -> tuple[str, ...]:
        """The set, what left it, and how sure the first place is."""
        inside = [name for name, stays in zip(self.settings, self.tied, strict=True) if stays]
        first = (
            f"{self.settings[0]} did best: {self.metric} {number(float(self.mean[0]))} "
            f"({self.better} is better), in {percent(float(self.best[0]))} of resamples of the seeds."
        )
        if len(inside) == len(self.settings) > 1:
            return first, f"None of the {len(inside)} settings can be told from it: more seeds would tell more."
        also = f": {_listed(inside[1:])}" if inside[1:] else ""
        if not also:
            others = len(self.settings) - 1
            return first, f"{'The other is' if others == 1 else f'All {others} others are'} worse than another setting."
        told = f"{len(inside) - 1} of {len(self.settings) - 1} others cannot be told from it{also}."
        return first, told, "Choose among these by what they cost."

    def picture(self) -> Picture:
        """A setting a line, those in the set in the first colour."""
        at = np.arange(len(self.settings))
        low, high = (np.where(np.isnan(ends), self.mean, ends) for ends in (self.low, self.high))
        layers = [
            Spans(at[chosen], self.mean[chosen], low[chosen], high[chosen], colour, name)
            for chosen, colour, name in (
                (self.tied, "series:0", "in the tied set"),
                (~self.tied, "quiet", "worse than another"),
            )
            if chosen.any()
        ]  # fmt: skip
        axis = Axis(f"{self.metric} ({self.better} is better)")
        names = tuple(in_lines(setting, _MOST_LINES) for setting in self.settings)
        rule = Rule(float(self.mean[0]))
        panel = Panel("", axis, names_axis(names), (rule, *layers), height=names_height(names))
        return Picture(
            "Settings that cannot be told from the best",
            (panel,),
            "A dot is the mean over seeds, the line its 95 % interval, of a share within 0 and 1. Intervals that "
            "overlap do not decide: pairs do.",
            _CAVEAT,
        )

    def to_columns(self) -> Columns:
        """A row a setting."""
        return {
            "setting": self.settings,
            "seeds": self.seeds.tolist(),
            self.metric: self.mean.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "p_worse": self.p.tolist(),
            "tied": self.tied.tolist(),
            "best_in": self.best.tolist(),
        }


def _listed(settings: Sequence[str]) -> str:
    """Settings of several values are told apart by more than a comma."""
    return "; ".join(settings) if any("," in one for one in settings) else joined(settings)


def tied_set(outcomes: Outcomes, lineage: Lineage, work: Work) -> TiedSet:
    """Raises `BadInput` where no run has the metric, or no setting has two seeds."""
    scores = outcomes.scores()
    if not any(len(by_seed) >= _FEWEST_SEEDS for by_seed in scores.values()):
        raise BadInput(
            "no setting was run with two seeds: nobody knows how much a seed does",
            code="explain.seeds",
            value=f"{len(scores)} settings with {outcomes.objective.metric}",
            cure="Run the plans again with other seeds: the plan's `seed`.",
        )
    names = sorted(scores, key=lambda name: (-np.mean(list(scores[name].values())), name))
    by_seed = [scores[name] for name in names]
    p = worse_p(by_seed, outcomes.grain)
    sign = outcomes.objective.sign
    low, high = _intervals(by_seed, outcomes.objective)
    lone = sum(len(one) < _FEWEST_SEEDS for one in by_seed)
    more = (
        (f"{lone} settings ran with one seed: they stay in the set, as nothing can be said of them.",) if lone else ()
    )
    return TiedSet(
        lineage=lineage,
        metric=outcomes.objective.metric,
        better=outcomes.objective.better,
        settings=tuple(names),
        seeds=np.array([len(one) for one in by_seed], np.int64),
        mean=sign * np.array([np.mean(list(one.values())) for one in by_seed]),
        low=low,
        high=high,
        p=p,
        tied=p > LEVEL,
        best=_best_shares(by_seed, work),
        caveats=(_CAVEAT, *more),
    )


def worse_p(scores: Sequence[Mapping[int, float]], grain: float = 0.0, *, shared: bool = True) -> Floats:
    """[settings] the smallest corrected p-value that some other setting is better; 1 where none can be.

    With `shared` also by what settings of the same seeds tell one another of how much a seed does; else each pair
    stands for itself alone.
    """
    alone = np.array([_smallest(scores, place, grain, {}) for place in range(len(scores))])
    told = _told_spreads(scores) if shared else {}
    if not told:
        return alone
    together = np.array([_smallest(scores, place, grain, told) for place in range(len(scores))])
    return np.asarray(np.minimum(1.0, 2 * np.minimum(alone, together)), np.float64)


def _smallest(scores: Sequence[Mapping[int, float]], place: int, grain: float, told: Mapping[int, _Chance]) -> float:
    """Of the setting at this place."""
    others = [
        better_p(other, scores[place], grain, _of_two(told.get(at), told.get(place)))
        for at, other in enumerate(scores)
        if at != place
    ]
    return float(holm(others).min()) if others else 1.0


@dataclasses.dataclass(frozen=True)
class _Chance:
    """The variance that others tell of, its degrees of freedom, and of which seeds."""

    variance: float
    freedom: float
    seeds: frozenset[int]


def _told_spreads(scores: Sequence[Mapping[int, float]]) -> dict[int, _Chance]:
    """Of settings, by place, that share their seeds with enough others."""
    groups: dict[frozenset[int], list[int]] = {}
    for place, by_seed in enumerate(scores):
        groups.setdefault(frozenset(by_seed), []).append(place)
    found: dict[int, _Chance] = {}
    for seeds, places in groups.items():
        order = sorted(seeds)
        table = np.array([[scores[place][seed] for seed in order] for place in places]).reshape(len(places), -1)
        if (spread := shared_spread(table)) is not None:
            variances = spread.variance.tolist()
            found |= {
                place: _Chance(variance, spread.freedom, seeds)
                for place, variance in zip(places, variances, strict=True)
            }
    return found


def _of_two(other: _Chance | None, one: _Chance | None) -> tuple[float, float] | None:
    """Variance of a seed's difference and its degrees of freedom; None where the two have no seeds in common."""
    if other is None or one is None or other.seeds != one.seeds:
        return None
    return other.variance + one.variance, one.freedom


def better_p(
    other: Mapping[int, float], one: Mapping[int, float], grain: float = 0.0, told: tuple[float, float] | None = None
) -> float:
    """One-sided p that `other` is no better than `one`, scores by seed in steps of `grain`, higher better.

    Paired over common seeds where there are two of them (Student 1908), else of two samples of differing variance
    (Welch 1947). 1 where seeds are too few, also where few show no spread at all. `told` is what all settings tell of
    the variance of these pairs, and its degrees of freedom: it holds unless the pairs themselves differ more.
    """
    common = sorted(other.keys() & one.keys())
    if len(common) >= _FEWEST_SEEDS:
        apart = np.array([other[seed] - one[seed] for seed in common])
        least, freedom = told if told is not None else (0.0, len(apart) - 1.0)
        mean, variance = float(apart.mean()), max(float(apart.var(ddof=1)), 2 * grain**2 / 12, least) / len(apart)
    elif min(len(other), len(one)) >= _FEWEST_SEEDS:
        samples = [np.array(list(scores.values())) for scores in (other, one)]
        parts = [max(float(sample.var(ddof=1)), grain**2 / 12) / len(sample) for sample in samples]
        mean, variance = float(samples[0].mean() - samples[1].mean()), sum(parts)
        squares = sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True))
        freedom = variance**2 / squares if squares > 0 else 1.0
    else:
        return 1.0
    if variance <= (_ROUNDING * abs(mean)) ** 2:
        return 0.0 if mean > 0 and freedom >= _ENOUGH else 1.0
    return _beyond(mean / math.sqrt(variance), freedom)


def _beyond(t: float, freedom: float) -> float:
    """The chance that Student's t is larger."""
    from scipy.special import stdtr  # noqa: PLC0415  (half a second that only comparing runs pays)

    return float(stdtr(freedom, -t))


def _intervals(by_seed: Sequence[Mapping[int, float]], objective: Objective) -> tuple[Floats, Floats]:
    """Ends of each setting's interval in the units of the metric; of shares none beyond 0 or 1.

    Student's interval of few seeds may reach beyond, where no mean of shares can be: cut off there it holds the mean
    exactly as often as before. A metric of such a name whose values are none, in per cent say, is left as it is.
    """
    sign = objective.sign
    ends = np.sort(sign * np.array([_interval(list(one.values())) for one in by_seed]).reshape(-1, 2), axis=1)
    values = [sign * value for one in by_seed for value in one.values()]
    if objective.is_share and min(values) >= 0 and max(values) <= 1:
        ends = ends.clip(0.0, 1.0)
    return ends[:, 0], ends[:, 1]


def _interval(values: list[float]) -> tuple[float, float]:
    if len(values) < _FEWEST_SEEDS:
        return math.nan, math.nan
    array = np.array(values)
    return mean_interval(len(values), float(array.sum()), float((array**2).sum()))


def _best_shares(scores: Sequence[Mapping[int, float]], work: Work) -> Floats:
    """In which share of resamples of each setting's seeds it has the best mean (Efron 1979)."""
    random = work.rng("runs", "tied")
    means = np.array([_resampled(np.array(list(one.values())), random) for one in scores])
    return np.bincount(means.argmax(axis=0), minlength=len(scores)) / _RESAMPLES


def _resampled(values: Floats, random: np.random.Generator) -> Floats:
    means: Floats = values[random.integers(0, len(values), (_RESAMPLES, len(values)))].mean(axis=1)
    return means
