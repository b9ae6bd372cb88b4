"""How much callers of the gRPC port may ask."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aimass.proto.values import Value

__all__ = ["GrpcLimits"]

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class GrpcLimits(Value, frozen=True):
    """What one process takes: bytes of a message, calls at once, streams of one connection, seconds without a call."""

    message_bytes: Positive = 64 << 20
    calls: Positive = 1_024
    streams: Positive = 256
    idle_s: Seconds = 300.0
