"""A person's plan becomes the one that is submitted: the task's digest and schema, the first model's digest and what
partners need are filled in."""

from __future__ import annotations

import hashlib

import msgspec

from aimass.proto.asking import asked_analysis
from aimass.proto.asks import EXPLAIN, Shared
from aimass.proto.boosting import outputs_of
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema
from aimass.proto.needs import estimated
from aimass.proto.plan import Plan, PlanDraft
from aimass.proto.plan_settings import TREES
from aimass.proto.surveys import SURVEYS, asks_columns
from aimass.proto.task import TaskSource, checkpointed_layers, first_model, load, locate
from aimass.proto.tensors import Blob, Layout
from aimass.proto.trees import is_ensemble

__all__ = ["completed"]


def completed(draft: PlanDraft, model: bytes | None = None, shared: Shared | None = None) -> tuple[Plan, bytes]:
    """The plan of a draft, and its first model: `model`, or the one that the task builds from the plan's seed.

    What an analysis of its stage `explain` works with beside the rows is `shared`.

    The task runs only where something is asked of it. Raises as `locate` and `load` do, and as `checkpointed_layers`
    where the draft asks for these; `BadInput` where a stage is for another kind of model.
    """
    source = locate(draft.task)
    needs_schema = asks_columns(draft) or draft.promote is not None
    if model is not None and not needs_schema and not draft.train.checkpointing:
        return _complete(draft, source, model), model
    task = load(source)
    if draft.train.checkpointing:
        checkpointed_layers(task)
    blob = first_model(task, draft.seed) if model is None else model
    return _complete(draft, source, blob, task.schema if needs_schema else None, shared), blob


def _complete(
    draft: PlanDraft, source: TaskSource, model: bytes, schema: Schema | None = None, shared: Shared | None = None
) -> Plan:
    layout = Blob(model).layout
    _check_kind(draft, layout)
    needs = estimated(draft, layout, source.base.bytes if source.base is not None else 0)
    needing = msgspec.structs.replace(draft, needs=needs)
    explain = asked_analysis(draft, schema, shared) if schema is not None else None
    return needing.complete(source.digest, hashlib.sha256(model).hexdigest(), schema, source.base, explain)


def _check_kind(draft: PlanDraft, model: Layout) -> None:
    """Trees are grown by the driver `trees` alone, and it grows nothing else; surveys and explanations take any."""
    changing = {stage.driver for stage in draft.stages}.difference(SURVEYS, (EXPLAIN,))
    if TREES in changing:
        outputs_of(model)
    if is_ensemble(model) and changing - {TREES}:
        raise BadInput(
            "the task's model is trees, and these drivers train networks",
            code="plan.trees",
            value=", ".join(sorted(changing - {TREES})),
            limit=TREES,
            cure=f"Name the driver `{TREES}`, or take a task whose model is a network.",
        )
