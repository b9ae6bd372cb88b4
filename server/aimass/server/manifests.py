"""The manifest of a finished run's last model, from what is stored of the run; it is written with the run's end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aimass.proto.model_manifest import ModelManifest, Reference
from aimass.proto.statistics import Histogram
from aimass.proto.storage import Blobs
from aimass.proto.values import canonical_json
from aimass.proto.views import StepView
from aimass.server.run_views import evaluation_of
from aimass.server.store import Commit, ModelRow, RunRow, Store

__all__ = ["manifest_of", "reference_of", "with_manifest"]

_SURVEY = "histogram"


def with_manifest(store: Store, blobs: Blobs, row: RunRow, commit: Commit) -> Commit:
    """The commit that ends a run which has finished, with the manifest of the model that it ends with. It blocks."""
    steps = {view.index: view for view in (*store.steps(row.run_id), *commit.steps)}
    models = (*commit.models, *store.models(row.run_id, row.run.model, 1))
    made = next((model for model in models if model.digest == row.run.model), None)
    size = len(blobs.open(row.run.model)) if blobs.has(row.run.model) else 0
    manifest = manifest_of(row, [steps[index] for index in sorted(steps)], made, size, commit.ended_at or 0.0)
    return dataclasses.replace(commit, manifest=canonical_json(manifest))


def manifest_of(
    row: RunRow, steps: Sequence[StepView], made: ModelRow | None, size: int, finished_at: float
) -> ModelManifest:
    """Of a run that has finished after these steps with the model that one of them `made`, of `size` bytes.

    None made it where the run ends with the model that it began with.
    """
    plan = row.run.plan
    evaluated = evaluation_of(made, steps) if made is not None else None
    heads = [step.transcript_head for step in steps if made is not None and step.index == made.step]
    return ModelManifest(
        run_id=row.run_id,
        run_name=plan.name,
        task=plan.task,
        data_schema=plan.data_schema,
        schema=plan.schema.digest if plan.schema is not None else "",
        plan=row.plan_digest,
        first_model=plan.model,
        base=plan.base,
        parameters=row.run.model,
        bytes=size,
        step=made.step if made is not None else None,
        round=made.round if made is not None else 0,
        transcript_head=heads[0] if heads else "",
        finished_at=finished_at,
        metrics={name: metric.mean for name, metric in evaluated.metrics.items()} if evaluated is not None else {},
        reference=reference_of(steps),
    )


def reference_of(steps: Sequence[StepView]) -> Reference:
    """The run's last histogram, or why there is none."""
    told = [step.statistics for step in steps if step.statistics is not None and step.statistics.survey == _SURVEY]
    found = [(one, one.found) for one in told if isinstance(one.found, Histogram)]
    if not told:
        return Reference(reason=f"the plan has no stage `{_SURVEY}`")
    if not found:
        return Reference(reason=told[-1].reason)
    last, histogram = found[-1]
    return Reference(histogram=histogram, partners=last.partners, noise=last.noise)
