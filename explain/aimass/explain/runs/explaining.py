"""From what a server shows of runs to what a person asks of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal, Protocol, TypeVar

import msgspec
import numpy as np

from aimass.explain.lineage import Lineage, software
from aimass.explain.runs.course import course
from aimass.explain.runs.importance import SettingsImportance, settings_importance
from aimass.explain.runs.layers import layers, relations
from aimass.explain.runs.outcomes import Objective, Outcomes, outcomes
from aimass.explain.runs.parallel import parallel
from aimass.explain.runs.pareto import pareto
from aimass.explain.runs.participation import participation
from aimass.explain.runs.results import ManyRuns, OneRun
from aimass.explain.runs.spending import spending, told_spent
from aimass.explain.runs.tied import tied_set
from aimass.explain.runs.trajectory import trajectory
from aimass.explain.work import Work
from aimass.privacy.dp.spending import spent_by, spent_together
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.registry.entries import Spent
from aimass.proto.values import Value
from aimass.proto.views import RunView

__all__ = ["RunsOptions", "compare", "explain"]

V = TypeVar("V")
_TOO_LITTLE: Final = frozenset({"explain.no_training", "explain.seeds", "explain.runs"})
"""Codes of what a view needs more of; other errors are faults."""


class RunsOptions(Value, frozen=True):
    """What runs are compared by."""

    metric: Annotated[str, msgspec.Meta(description="the metric to compare by; the first that a run has")] = ""
    better: Annotated[
        Literal["higher", "lower", "usual"],
        msgspec.Meta(description="which way is better; usually losses and errors are better lower"),
    ] = "usual"
    target: Annotated[float | None, msgspec.Meta(description="tell how long runs took to reach this value")] = None
    resamples: Annotated[int, msgspec.Meta(ge=20, le=10_000, description="resamples for importance's intervals")] = 200


class Importance(Protocol):
    """Which settings decided, by runs that are compared; raises `BadInput` where they are too few."""

    def __call__(self, outcomes: Outcomes, lineage: Lineage, work: Work, *, resamples: int) -> SettingsImportance: ...


_USUAL: Final = RunsOptions()
_QUIET: Final = Work()


def explain(run: RunView, work: Work = _QUIET) -> OneRun:
    """What happened in a run, finished or not."""
    caveats: list[str] = []
    whole = course(run)
    work.tell(0.25, "course")
    cost = spending(run)
    private = cost.whole.epsilon is not None or not np.isnan(cost.epsilon).all()
    promise = () if private else (f"The run promises {told_spent(cost.whole)}.",)
    return OneRun(
        lineage=whole.lineage,
        course=whole,
        participation=participation(run),
        privacy=cost if private else None,
        layers=_unless_too_little(lambda: layers(run), caveats),
        relations=_unless_too_little(lambda: relations(run), caveats),
        trajectory=_unless_too_little(lambda: trajectory(run), caveats),
        caveats=tuple(dict.fromkeys((*caveats, *promise))),
    )


def compare(
    runs: Sequence[RunView],
    options: RunsOptions = _USUAL,
    work: Work = _QUIET,
    *,
    spent: Callable[[RunView], Spent] = spent_by,
    importance: Importance = settings_importance,
) -> ManyRuns:
    """What came of runs of one task; `spent` says what each cost in privacy, and `importance` which settings decided.

    Raises `BadInput` where none compares.
    """
    found = outcomes(runs, _objective(runs, options), target=options.target, spent=spent)
    if all(run.quality is None for run in found.runs):
        raise BadInput("no run has this metric", code="explain.metric", value=found.objective.metric)
    lineage = Lineage(
        model=runs[0].summary.task,
        data=runs[0].plan.data_schema,
        run=", ".join(run.run for run in found.runs),
        seed=work.seed,
        software=software(),
    )
    caveats: list[str] = []
    return ManyRuns(
        lineage=lineage,
        pareto=pareto(found, lineage),
        parallel=parallel(found, lineage),
        tied=_unless_too_little(lambda: tied_set(found, lineage, work), caveats),
        importance=_unless_too_little(lambda: importance(found, lineage, work, resamples=options.resamples), caveats),
        tuning=spent_together(runs),
        caveats=tuple(caveats),
    )


def _objective(runs: Sequence[RunView], options: RunsOptions) -> Objective:
    if not runs:
        raise BadInput("no run to compare", code="explain.runs", cure="Name two runs at least.")
    metric = options.metric or next((name for run in runs for step in run.steps for name in step.metrics), "")
    if not metric:
        raise BadInput(
            "no run has measured anything",
            code="explain.metric",
            cure="Give the plans an evaluation, or name other runs.",
        )
    return Objective.of(metric) if options.better == "usual" else Objective(metric, options.better)


def _unless_too_little(view: Callable[[], V], caveats: list[str]) -> V | None:
    """The view; where these runs hold too little for it, a caveat says what is missing."""
    try:
        return view()
    except AimassError as error:
        if error.code not in _TOO_LITTLE:
            raise
        caveats.append(error.sentence())
        return None
