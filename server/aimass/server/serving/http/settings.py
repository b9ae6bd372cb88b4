"""How much one caller may ask of the HTTP port, and how long it may take."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aimass.proto.values import Value

__all__ = ["HttpLimits"]

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class HttpLimits(Value, frozen=True):
    """Bytes, counts and seconds.

    A request is there within `request_s` of its first byte, and its answer is taken within `answer_s`; a connection
    with nothing to do is closed after `idle_s`. `pending_bytes` bounds the bodies of all requests together.
    `json_bytes` bounds what of one is JSON: while it is read, some 10 ms a MB, nobody else is answered.
    `connections_of_one` is for one address, so that it cannot take all of them from the rest.
    `requests_per_s` is for one caller, saved up for at most a second; 0 is no limit.
    """

    body_bytes: Positive = 64 << 20
    json_bytes: Positive = 8 << 20
    head_bytes: Positive = 16 << 10
    pending_bytes: Positive = 512 << 20
    connections: Positive = 1_024
    connections_of_one: Positive = 768
    request_s: Seconds = 30.0
    answer_s: Seconds = 30.0
    idle_s: Seconds = 75.0
    requests_per_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
