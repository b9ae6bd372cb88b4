"""The forms in which a model leaves the federation: as it is, for another program, or for a person."""

from __future__ import annotations

from typing import Literal

import msgspec

from aimass.proto.errors import BadInput, IntegrityError
from aimass.proto.manifest import Schema
from aimass.proto.plan import Plan
from aimass.proto.task import load, locate
from aimass.proto.tensors import Blob
from aimass.proto.tree_text import described, text_of
from aimass.proto.tree_xgboost import xgboost_json
from aimass.proto.trees import decode, is_ensemble

__all__ = ["TreeForm", "schema_of", "tree_in_form"]

TreeForm = Literal["xgboost", "text", "json"]


def tree_in_form(form: TreeForm, model: Blob, schema: Schema) -> bytes:
    """Trees by the names of their schema: XGBoost's JSON, a text to read, or the same as JSON.

    Raises `BadInput` for a model that is no trees.
    """
    if not is_ensemble(model.layout):
        raise BadInput(
            f"only trees have the form {form!r}, and this model is none",
            code="model.form",
            value=", ".join(sorted(model.layout.by_name)[:3]),
            cure="Export it as safetensors.",
        )
    ensemble = decode(model)
    match form:
        case "xgboost":
            return xgboost_json(ensemble, schema)
        case "text":
            return text_of(described(ensemble, schema)).encode()
        case "json":
            return msgspec.json.format(msgspec.json.encode(described(ensemble, schema)))


def schema_of(plan: Plan) -> Schema:
    """The columns of a run's models: as its plan has them, or by its task as it is installed here.

    Raises as `locate` and `load` do, and `IntegrityError` where another version of the task is installed: its columns
    might be others.
    """
    if plan.schema is not None:
        return plan.schema
    source = locate(plan.task.name)
    if source.digest != plan.task.digest:
        raise IntegrityError(
            f"the task {plan.task.name!r} that is installed here is not the one that the run was made with",
            code="task.changed",
            value=source.digest,
            limit=plan.task.digest,
            cure="Install the run's version, or export the model as safetensors.",
        )
    return load(source).schema
