"""A person's plan becomes the one that is submitted: the task's digest and schema, the first model's digest and what
partners need are filled in."""

from __future__ import annotations

import hashlib

import msgspec

from aimass.proto.manifest import Schema
from aimass.proto.needs import estimated
from aimass.proto.plan import Plan, PlanDraft
from aimass.proto.surveys import asks_columns
from aimass.proto.task import TaskSource, checkpointed_layers, first_model, load, locate
from aimass.proto.tensors import Blob

__all__ = ["completed"]


def completed(draft: PlanDraft, model: bytes | None = None) -> tuple[Plan, bytes]:
    """The plan of a draft, and its first model: `model`, or the one that the task builds from the plan's seed.

    The task runs only where something is asked of it. Raises as `locate` and `load` do, and as `checkpointed_layers`
    where the draft asks for these.
    """
    source = locate(draft.task)
    if model is not None and not asks_columns(draft) and not draft.train.checkpointing:
        return _complete(draft, source, model), model
    task = load(source)
    if draft.train.checkpointing:
        checkpointed_layers(task)
    blob = first_model(task, draft.seed) if model is None else model
    return _complete(draft, source, blob, task.schema if asks_columns(draft) else None), blob


def _complete(draft: PlanDraft, source: TaskSource, model: bytes, schema: Schema | None = None) -> Plan:
    needs = estimated(draft, Blob(model).layout, source.base.bytes if source.base is not None else 0)
    needing = msgspec.structs.replace(draft, needs=needs)
    return needing.complete(source.digest, hashlib.sha256(model).hexdigest(), schema, source.base)
