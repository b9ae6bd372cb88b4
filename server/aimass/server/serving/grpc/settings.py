"""How much callers of the gRPC port may ask."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aimass.proto.values import Value

__all__ = ["GrpcLimits"]

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class GrpcLimits(Value, frozen=True):
    """What one process takes: bytes of a message, calls at once, streams of one connection, seconds without a call.

    A message is there within `request_s` of its call's beginning. After `age_s` a connection is asked to be made anew,
    which spreads callers over the processes that there are by then, and ends those who do not read their answers.
    Messages are in memory before anything can be said of them, at most `message_bytes` times `calls`.
    """

    message_bytes: Positive = 16 << 20
    calls: Positive = 256
    streams: Positive = 128
    request_s: Seconds = 30.0
    idle_s: Seconds = 300.0
    age_s: Seconds = 3_600.0
