"""The manifest of a model: what it is, where it comes from, and how the data looked that it learnt from.

The server writes one with the end of each run that finishes, for the run's last model. It is canonical JSON, whose
SHA-256 names it; whoever keeps the model keeps it beside.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from aimass.proto.bases import Base
from aimass.proto.names import Digest, Name, SchemaName
from aimass.proto.plan import TaskRef
from aimass.proto.statistics import Histogram
from aimass.proto.values import Value, decode_canonical_json

__all__ = ["ModelManifest", "Reference", "decode_manifest"]


class Reference(Value, frozen=True):
    """How the columns of the training rows are spread, as the partners' policies release it: later rows are held
    against it.

    It is over the rows of so many `partners`, each count with noise of standard deviation `noise`. Without a
    `histogram` it is empty, for the `reason`.
    """

    histogram: Histogram | None = None
    partners: int = 0
    noise: float = 0.0
    reason: str = ""


class ModelManifest(Value, frozen=True):
    """Of the model whose safetensors blob has the digest `parameters`.

    `plan` is the digest of the run's plan, `first_model` that of the model that it began with. The model was made by
    the run's step `step`, in the round `round`; None where no step changed it. `transcript_head` is the head of the
    run's history after that step, `metrics` are the means that the evaluation after it came to. `schema` is the digest
    of the task's schema, where the plan has it. `base` is the frozen model that the parameters are trained beside: who
    uses them needs it too.
    """

    run_id: str
    run_name: Name
    task: TaskRef
    data_schema: SchemaName
    schema: str
    plan: Digest
    first_model: Digest
    parameters: Digest
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    step: int | None
    round: int
    transcript_head: str
    finished_at: float
    metrics: dict[str, float]
    reference: Reference
    base: Base | None = None
    format: Literal[1] = 1


def decode_manifest(data: bytes) -> ModelManifest:
    """Strictly decode a manifest's bytes; raises `BadInput` for anything but canonical JSON."""
    return decode_canonical_json(ModelManifest, data, "the model's manifest")
