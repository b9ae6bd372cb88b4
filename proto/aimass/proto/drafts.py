"""A person's plan becomes the one that is submitted: the task's digest and schema and the first model are filled in."""

from __future__ import annotations

import hashlib

from aimass.proto.plan import Plan, PlanDraft
from aimass.proto.surveys import asks_columns
from aimass.proto.task import checkpointed_layers, first_model, load, locate

__all__ = ["completed"]


def completed(draft: PlanDraft, model: bytes | None = None) -> tuple[Plan, bytes]:
    """The plan of a draft, and its first model: `model`, or the one that the task builds from the plan's seed.

    The task runs only where something is asked of it. Raises as `locate` and `load` do, and as `checkpointed_layers`
    where the draft asks for these.
    """
    source = locate(draft.task)
    if model is not None and not asks_columns(draft) and not draft.train.checkpointing:
        return draft.complete(source.digest, hashlib.sha256(model).hexdigest(), base=source.base), model
    task = load(source)
    if draft.train.checkpointing:
        checkpointed_layers(task)
    blob = first_model(task, draft.seed) if model is None else model
    schema = task.schema if asks_columns(draft) else None
    return draft.complete(source.digest, hashlib.sha256(blob).hexdigest(), schema, source.base), blob
