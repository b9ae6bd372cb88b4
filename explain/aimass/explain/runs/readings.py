"""What a run's steps say, as arrays: the one place that knows how a `RunView` is laid out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.lineage import Lineage, software
from aimass.explain.results import Array, Part
from aimass.proto.step import StepKind
from aimass.proto.views import RunView, StepSummary, StepView

__all__ = ["Curve", "committed", "curves", "lean", "learning", "lineage_of_run", "metric_names", "summaries", "thinned"]

Floats = npt.NDArray[np.float64]


class Curve(Part, frozen=True, kw_only=True, eq=False):
    """A metric over the cohort: `mean` float64 [n] after round `rounds` int64 [n], over `weight` [n] rows.

    `by_partner` float64 [partners, n] holds what their policies release, NaN for the rest.
    """

    name: str
    rounds: Array
    mean: Array
    weight: Array
    partners: tuple[str, ...] = ()
    by_partner: Array


def committed(run: RunView) -> tuple[StepView, ...]:
    """The steps that came to something, in order."""
    return tuple(step for step in run.steps if step.committed_at is not None)


def learning(run: RunView) -> tuple[StepView, ...]:
    """Those of them that changed the model, as far as the server kept how."""
    return tuple(step for step in committed(run) if step.kind is StepKind.TRAIN and step.summary is not None)


def summaries(run: RunView) -> tuple[StepSummary, ...]:
    """Of each training step."""
    return tuple(step.summary for step in learning(run) if step.summary is not None)


def curves(run: RunView) -> tuple[Curve, ...]:
    """Every metric that steps brought; one that is not of the round's model has the step's purpose before its name."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for step in committed(run):
        for name, metric in step.metrics.items():
            found.setdefault(_told(step, name), []).append((step.round, metric))
    return tuple(_curve(name, points) for name, points in found.items())


def _curve(name: str, points: Sequence[tuple[int, Any]]) -> Curve:
    partners = tuple(sorted({partner for _, metric in points for partner in metric.by_partner}))
    released = [[metric.by_partner.get(partner, np.nan) for _, metric in points] for partner in partners]
    return Curve(
        name=name,
        rounds=np.array([round_ for round_, _ in points], np.int64),
        mean=np.array([metric.mean for _, metric in points], np.float64),
        weight=np.array([metric.weight for _, metric in points], np.float64),
        partners=partners,
        by_partner=np.array(released, np.float64).reshape(len(partners), len(points)),
    )


def metric_names(runs: Sequence[RunView]) -> tuple[str, ...]:
    """Every metric of any of the runs, those that most of them have first."""
    names = Counter(name for run in runs for name in dict.fromkeys(_told_metrics(run)))
    return tuple(sorted(names, key=lambda name: -names[name]))


def _told_metrics(run: RunView) -> Iterator[str]:
    return (_told(step, name) for step in committed(run) for name in step.metrics)


def _told(step: StepView, name: str) -> str:
    return f"{step.purpose}: {name}" if step.purpose else name


def lean(run: RunView) -> RunView:
    """The run without what only a look at it alone needs: who did what, layers and sketches, figures of partners."""
    return msgspec.structs.replace(run, participants=(), steps=tuple(_lean_step(step) for step in run.steps))


def _lean_step(step: StepView) -> StepView:
    metrics = {name: msgspec.structs.replace(metric, by_partner={}) for name, metric in step.metrics.items()}
    return msgspec.structs.replace(
        step, slots={}, reasons={}, carried={}, summary=None, statistics=None, metrics=metrics
    )


def lineage_of_run(run: RunView, seed: int | None = None) -> Lineage:
    """Of a result about a run: its last model, its schema's data, how many partners took part."""
    counted = {partner for step in run.steps for partner, state in step.slots.items() if state == "counted"}
    return Lineage(
        model=run.summary.task,
        model_digest=run.summary.model,
        data=run.plan.data_schema,
        partners=len(counted),
        run=run.summary.run_id,
        round=run.summary.round,
        seed=seed,
        software=software(),
    )


def thinned(values: Floats, most: int) -> npt.NDArray[np.int64]:
    """Positions of at most `most` of a series, first, last, and the smallest and largest of each stretch between.

    So a spike stays to be seen however long the run was.
    """
    count = len(values)
    if count <= most or most < 4:
        return np.arange(count)
    stretches = np.array_split(np.arange(1, count - 1), (most - 2) // 2)
    kept = [place for stretch in stretches for place in _ends(values, stretch)]
    return np.unique(np.array([0, *kept, count - 1], np.int64))


def _ends(values: Floats, stretch: npt.NDArray[np.int64]) -> Iterator[int]:
    inside = values[stretch]
    if len(stretch) and not np.isnan(inside).all():
        yield int(stretch[np.nanargmin(inside)])
        yield int(stretch[np.nanargmax(inside)])
