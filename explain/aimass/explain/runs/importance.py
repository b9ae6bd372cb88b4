"""Which settings decided how good the runs became: functional ANOVA of the settings of the best runs.

Optuna computes it (PED-ANOVA: Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter
Importance in Arbitrary Subspaces"). Intervals are of resampled settings, with all their seeds (Efron 1979).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, names_axis
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.outcomes import Outcome, Outcomes
from aimass.explain.words import interval, percent
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.values import Scalar

__all__ = ["SettingsImportance", "ranked", "settings_importance"]

Floats = npt.NDArray[np.float64]
_FEWEST_RUNS: Final = 8
_LEVEL: Final = 0.05
_CAVEAT: Final = (
    "Importance is within the values that were tried: what was tried with one value, or nearly so, has none. It says "
    "nothing of the direction."
)


class SettingsImportance(Result, frozen=True, kw_only=True, eq=False, tag="runs.importance"):
    """`share` float64 [settings] sums to 1, most important first, with `low` and `high` from `resamples`.

    `p` is how often qualities that are dealt to the settings at random show as much of any setting.
    """

    metric: str
    settings: tuple[str, ...]
    share: Array
    low: Array
    high: Array
    runs: int
    resamples: int
    p: float

    def describe(self) -> tuple[str, ...]:
        """The most important settings, and whether the order is sure; or that nothing shows."""
        if self.p > _LEVEL:
            nothing = f"Nothing shows that any setting decides of {self.metric}, over {self.runs} runs"
            return (f"{nothing}: dealt at random, qualities show as much in {percent(self.p)} of cases.",)
        first = (
            f"Of what settings decide of {self.metric}, {self.settings[0]} decides {percent(float(self.share[0]))} "
            f"({interval(100 * float(self.low[0]), 100 * float(self.high[0]), 2)} %), over {self.runs} runs."
        )
        if len(self.settings) > 1 and self.high[1] >= self.low[0]:
            return first, f"Its interval overlaps that of {self.settings[1]}: their order is not sure."
        return (first,)

    def picture(self) -> Picture:
        """A bar a setting."""
        bars = Bars(np.arange(len(self.settings)), self.share, self.low, self.high)
        panel = Panel("", Axis("share of importance", domain=(0, 1)), names_axis(self.settings), (bars,))
        return Picture(
            f"Which settings decided {self.metric}",
            (panel,),
            "A bar is how much a setting decides of being among the best runs; the line is its 95 % interval.",
            _CAVEAT,
        )

    def to_columns(self) -> Columns:
        """A row a setting."""
        figures = {"share": self.share, "low": self.low, "high": self.high}
        return {"setting": self.settings} | {name: values.tolist() for name, values in figures.items()}


def settings_importance(
    outcomes: Outcomes, lineage: Lineage, work: Work, *, resamples: int = 200
) -> SettingsImportance:
    """Raises `BadInput` for fewer than eight runs with the metric, or runs that differ in no setting."""
    runs = [run for run in outcomes.runs if run.quality is not None]
    if len(runs) < _FEWEST_RUNS or not outcomes.varied:
        raise BadInput(
            "too few runs, or runs of one setting: nothing says what a setting does",
            code="explain.runs",
            value=f"{len(runs)} runs, {len(outcomes.varied)} settings that differ",
            limit=f"{_FEWEST_RUNS} runs or more, with a setting that differs",
            cure="Run more plans, with settings that differ.",
        )
    names, sign = outcomes.varied, outcomes.objective.sign
    seen = _divergences(runs, names, sign)
    share = _shares(seen)
    drawn = _resampled(outcomes, runs, names, work.part(0.0, 0.5), resamples)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    p = _by_chance(runs, names, sign, float(seen.max()), work.part(0.5, 1.0), resamples)
    doubt = ("These runs do not show that any setting matters: shares of nothing are chance.",) if p > _LEVEL else ()
    return ranked(outcomes, lineage, names, (share, low, high), resamples=resamples, p=p, caveats=(_CAVEAT, *doubt))


def ranked(
    outcomes: Outcomes,
    lineage: Lineage,
    names: tuple[str, ...],
    figures: tuple[Floats, Floats, Floats],
    **more: Any,
) -> SettingsImportance:
    """Share, low and high of each of `names`, most important first; the interval holds the share."""
    share, low, high = figures
    order = np.argsort(-share, kind="stable")
    return SettingsImportance(
        lineage=lineage,
        metric=outcomes.objective.metric,
        settings=tuple(names[place] for place in order),
        share=share[order],
        low=np.minimum(low, share)[order],
        high=np.maximum(high, share)[order],
        runs=sum(run.quality is not None for run in outcomes.runs),
        **more,
    )


def _by_chance(
    runs: list[Outcome], names: tuple[str, ...], sign: float, seen: float, work: Work, shuffles: int
) -> float:
    """p that `seen`, the largest divergence, is no more than chance: (1 + as large) / (1 + shuffles)."""
    random, as_large = work.rng("runs", "importance", "chance"), 0
    for done in range(shuffles):
        work.check()
        work.tell(done / shuffles, "what chance makes of settings")
        dealt = [runs[place].quality for place in random.permutation(len(runs))]
        mixed = [msgspec.structs.replace(run, quality=one) for run, one in zip(runs, dealt, strict=True)]
        as_large += float(_divergences(mixed, names, sign).max()) >= seen
    return (1 + as_large) / (1 + shuffles)


def _resampled(outcomes: Outcomes, runs: list[Outcome], names: tuple[str, ...], work: Work, resamples: int) -> Floats:
    """Shares [resamples, settings] of as many settings drawn again, each with all its runs."""
    groups: dict[str, list[Outcome]] = {}
    for run in runs:
        groups.setdefault(outcomes.setting(run), []).append(run)
    by_setting, random = list(groups.values()), work.rng("runs", "importance")
    found = []
    for done in range(resamples):
        work.check()
        work.tell(done / resamples, "importance of settings")
        drawn = random.integers(0, len(by_setting), len(by_setting))
        these = [run for place in drawn for run in by_setting[place]]
        found.append(_shares(_divergences(these, names, outcomes.objective.sign)))
    return np.array(found)


def _shares(divergences: Floats) -> Floats:
    total = divergences.sum()
    return divergences / total if total > 0 else divergences


def _divergences(runs: list[Outcome], names: tuple[str, ...], sign: float) -> Floats:
    """PED-ANOVA's, in the order of `names`; a setting that is the same in all of these runs has none."""
    import optuna  # noqa: PLC0415  (a second that only comparing many runs pays)
    from optuna.importance import PedAnovaImportanceEvaluator  # noqa: PLC0415

    spaces = {name: space for name in names if (space := _space(optuna, [run.settings.get(name) for run in runs]))}
    if not spaces:
        return np.zeros(len(names))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for run in runs:
        study.add_trial(
            optuna.trial.create_trial(
                params={name: _cell(run.settings.get(name)) for name in spaces},
                distributions=spaces,
                value=sign * (run.quality or 0.0),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its experimental warning
        found: Mapping[str, float] = optuna.importance.get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(evaluate_on_local=False),
            params=list(spaces),
            normalize=False,
        )
    return np.array([found.get(name, 0.0) for name in names])


def _space(optuna: Any, values: list[Scalar | None]) -> Any:
    """The distribution that these values were drawn from, as far as they show it; None where they are all alike."""
    if len({_cell(value) for value in values}) < 2:
        return None
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return optuna.distributions.CategoricalDistribution(sorted({_cell(value) for value in values}, key=str))
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low >= 10
    if all(isinstance(value, int) for value in values):
        return optuna.distributions.IntDistribution(int(low), int(high), log=log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log=log)


def _cell(value: Scalar | None) -> Scalar:
    return "none" if value is None else value
