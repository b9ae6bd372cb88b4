"""What many runs were set to and what they came to: the table that all comparisons of runs begin with. Pure."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.results import Part
from aimass.explain.runs.readings import committed, curves
from aimass.proto.errors import BadInput
from aimass.proto.plan import Plan
from aimass.proto.registry.entries import Spent
from aimass.proto.values import Scalar
from aimass.proto.views import RunView

__all__ = ["Objective", "Outcome", "Outcomes", "outcomes", "settings_of", "short_names", "varied"]

_IDENTITY: Final = frozenset({"name", "seed", "model", "needs", "study", "format"})
_LOWER: Final = frozenset(
    {"loss", "error", "brier", "rmse", "mse", "mae", "mape", "ece", "nll", "perplexity", "deviance", "hausdorff"}
)
_HIGHER: Final = frozenset(
    {"accuracy", "auc", "ap", "dice", "iou", "f1", "precision", "recall", "sensitivity", "specificity", "r2"}
)
_SHARES: Final = _HIGHER - {"r2"}
"""Of these none is below 0 or above 1."""
_COUNT: Final = 1e-6
_MOST_TOLD: Final = 6
_WORDS: Final = re.compile(r"[a-z]+[0-9]*")


class Outcome(Part, frozen=True, kw_only=True, eq=False):
    """A run: `settings` by dotted name, `quality` at its end, what it cost. `epsilon` None: nothing is promised.

    To the target a run has moved that share of its bytes which it had taken of its steps. `grain` is the step in which
    the quality comes, a share of so many rows say; 0 where it comes in none.
    """

    run: str
    name: str
    seed: int
    settings: dict[str, Scalar]
    quality: float | None
    epsilon: float | None
    bytes: int
    seconds: float
    seconds_to_target: float | None = None
    bytes_to_target: float | None = None
    grain: float = 0.0


@dataclasses.dataclass(frozen=True)
class Objective:
    """The metric that runs are compared by, as they have it at their last evaluation, and which way is better."""

    metric: str
    better: Literal["higher", "lower"]

    @staticmethod
    def of(metric: str) -> Objective:
        """By the words in its name; raises `BadInput` for one of which they do not say which way is better."""
        words = set(_WORDS.findall(metric.lower()))
        lower, higher = words & _LOWER, words & _HIGHER
        if bool(lower) == bool(higher):
            raise BadInput(
                "nobody knows which way this metric is better",
                code="explain.better",
                value=metric,
                cure="Say it: --better higher, or --better lower.",
            )
        return Objective(metric, "lower" if lower else "higher")

    @property
    def is_share(self) -> bool:
        """Whether the words of its name say that it lies between 0 and 1."""
        words = set(_WORDS.findall(self.metric.lower()))
        return bool(words & _SHARES) and not words & _LOWER

    @property
    def sign(self) -> float:
        """Times this, higher is better."""
        return 1.0 if self.better == "higher" else -1.0


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Runs of one objective. `varied` are the settings in which they differ, seeds apart."""

    objective: Objective
    runs: tuple[Outcome, ...]
    varied: tuple[str, ...]

    def setting(self, outcome: Outcome) -> str:
        """What a run was set to, as a person reads it; equal for runs that differ in their seed alone.

        Where runs differ in many settings, those are told that most runs have otherwise.
        """
        return self._label(outcome, self._digits)

    @functools.cached_property
    def _digits(self) -> int:
        """The fewest that tell any two settings apart, three at least."""
        apart = {tuple(run.settings.get(name) for name in self.varied): run for run in self.runs}
        told = (
            digits for digits in range(3, 17) if len({self._label(one, digits) for one in apart.values()}) == len(apart)
        )
        return next(told, 17)

    def _label(self, outcome: Outcome, digits: int) -> str:
        few, short = len(self.varied) <= _MOST_TOLD, short_names(self.varied)
        told = [
            f"{short[name]} {_shown(outcome.settings.get(name), digits)}"
            for name in self.varied
            if few or outcome.settings.get(name) != self._usual[name]
        ]
        return ", ".join(told) or ("all alike" if few else "set as most runs")

    @functools.cached_property
    def _usual(self) -> dict[str, Scalar | None]:
        """Of each setting what most runs have; of equally many the first run's."""
        return {name: Counter(run.settings.get(name) for run in self.runs).most_common(1)[0][0] for name in self.varied}

    @property
    def grain(self) -> float:
        """The coarsest step in which the runs' quality comes; 0 where any of them comes in none."""
        grains = [run.grain for run in self.runs if run.quality is not None]
        return max(grains, default=0.0) if all(grains) else 0.0

    def scores(self) -> dict[str, dict[int, float]]:
        """Signed quality (higher is better) by setting, then by seed; a seed that came twice counts by its mean."""
        found: dict[str, dict[int, list[float]]] = {}
        for run in self.runs:
            if run.quality is not None:
                found.setdefault(self.setting(run), {}).setdefault(run.seed, []).append(
                    self.objective.sign * run.quality
                )
        return {name: {seed: float(np.mean(values)) for seed, values in by.items()} for name, by in found.items()}


def outcomes(
    runs: Sequence[RunView],
    objective: Objective,
    *,
    target: float | None = None,
    spent: Callable[[RunView], Spent] = lambda _: Spent(),
) -> Outcomes:
    """Of one run or more; raises `BadInput` for runs of several tasks.

    `spent` says what a run cost in privacy. With a `target` it is told how long each run took to reach it.
    """
    tasks = sorted({run.summary.task for run in runs})
    if len(tasks) > 1:
        raise BadInput(
            "runs of several tasks cannot be compared", code="explain.runs", value=", ".join(tasks), limit="one task"
        )
    found = tuple(_outcome(run, objective, target, spent(run)) for run in runs)
    return Outcomes(objective, found, varied([one.settings for one in found]))


def _outcome(run: RunView, objective: Objective, target: float | None, spent: Spent) -> Outcome:
    curve = next((curve for curve in curves(run) if curve.name == objective.metric), None)
    steps = committed(run)
    begin = steps[0].opened_at if steps else run.summary.created_at
    ends = {step.round: step.committed_at or begin for step in steps}
    reached = None
    if curve is not None and target is not None:
        there = np.flatnonzero(objective.sign * curve.mean >= objective.sign * target)
        reached = ends[int(curve.rounds[there[0]])] - begin if len(there) else None
    taken = sum(1 for step in steps if (step.committed_at or begin) - begin <= (reached or 0.0))
    last = math.nan if curve is None else float(curve.mean[-1])
    rows = 0.0 if curve is None else float(curve.weight[-1])
    return Outcome(
        run=run.summary.run_id,
        name=run.summary.name,
        seed=run.plan.seed,
        settings=settings_of(run.plan),
        quality=last if math.isfinite(last) else None,
        epsilon=spent.epsilon,
        bytes=run.moved.down + run.moved.up,
        seconds=max(ends.values(), default=begin) - begin,
        seconds_to_target=reached,
        bytes_to_target=None if reached is None else (run.moved.down + run.moved.up) * taken / len(steps),
        grain=_grain(last, rows),
    )


def _grain(mean: float, rows: float) -> float:
    """One row's share where the mean is a count of rows over all of them, as of an accuracy."""
    counted = mean * rows
    return 1 / rows if rows >= 1 and math.isfinite(counted) and abs(counted - round(counted)) < _COUNT else 0.0


def settings_of(plan: Plan) -> dict[str, Scalar]:
    """Everything of a plan that decides what is computed, but its seed, by dotted name: `train.learning_rate`."""
    whole = msgspec.to_builtins(plan)
    return dict(_flat({name: part for name, part in whole.items() if name not in _IDENTITY}))


def _flat(value: object, name: str = "") -> Iterable[tuple[str, Scalar]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from _flat(part, f"{name}.{place}")
    elif isinstance(value, bool | int | float | str):
        yield name, value


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Each dotted name by its last word, where that is of no other one: `momentum`, but `evaluate.batch_size`."""
    words = [name.rpartition(".")[2] for name in names]
    return {name: word if words.count(word) == 1 else name for name, word in zip(names, words, strict=True)}


def varied(settings: Sequence[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """Names whose values differ between runs, or that some runs lack."""
    names = sorted({name for one in settings for name in one})
    return tuple(name for name in names if len({(name in one, one.get(name)) for one in settings}) > 1)


def _shown(value: Scalar | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def matrix(outcomes: Outcomes, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """float64 [runs, names]: numbers as they are, words as places in their sorted order, NaN where a run lacks one."""
    columns = [[run.settings.get(name) for run in outcomes.runs] for name in names]
    return np.array([_column(column) for column in columns]).reshape(len(names), len(outcomes.runs)).T


def _column(values: Sequence[Scalar | None]) -> list[float]:
    if all(value is None or isinstance(value, bool | int | float) for value in values):
        return [math.nan if value is None else float(value) for value in values]
    words = sorted({str(value) for value in values if value is not None})
    return [math.nan if value is None else float(words.index(str(value))) for value in values]
