"""What an offline run tells the training service of itself, so that its models stand beside those of federated runs."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from aimass.proto.names import Name
from aimass.proto.statistics import Statistics
from aimass.proto.step import StepKind
from aimass.proto.values import Value
from aimass.proto.views import RunState, SlotState

__all__ = ["Measured", "ReportedRun", "StepReport"]

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_Made = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?\\Z")]
_Metric = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Reason = Annotated[str, msgspec.Meta(max_length=500)]
_MOST_S: Final = 1e9
"""Thirty years."""
_MOST: Final = 10_000
"""Shards that one step speaks of by name: more would make its view too large to send."""


class Measured(Value, frozen=True):
    """A metric over the shards that counted: its mean, and the weight that this is over."""

    mean: float
    weight: Annotated[float, msgspec.Meta(ge=0)]


class StepReport(Value, frozen=True):
    """What a step came to. `model` is the digest of what it made, empty where it made none; its bytes were `sent`
    before, or are not kept any more.

    `slots` are the shards that are worth a word, as a federated step has partners; `counted` says how many counted of
    all that were `asked`.
    """

    index: _Count
    kind: StepKind
    round: _Count
    asked: _Count
    counted: _Count
    seconds: Annotated[float, msgspec.Meta(ge=0, le=_MOST_S)]
    purpose: Annotated[str, msgspec.Meta(max_length=200)] = ""
    model: _Made = ""
    sent: bool = True
    metrics: Annotated[dict[_Metric, Measured], msgspec.Meta(max_length=1_000)] = {}
    slots: Annotated[dict[Name, SlotState], msgspec.Meta(max_length=_MOST)] = {}
    reasons: Annotated[dict[Name, _Reason], msgspec.Meta(max_length=_MOST)] = {}
    statistics: Statistics | None = None


class ReportedRun(Value, frozen=True):
    """Where the service's record of an offline run stands: the index of the step that it has yet to hear of."""

    run_id: str
    state: RunState
    next_step: int
