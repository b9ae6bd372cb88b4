"""How many workers a version has, how long things may take, and how much may wait."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aimass.proto.values import Value

__all__ = ["DispatchSettings"]

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class DispatchSettings(Value, frozen=True):
    """Each version has so many `workers`, one core each, and is asked for up to `most_rows` rows at once,
    and for no more than take about `batch_s`: so long waits who comes meanwhile.

    Of requests to a version `most_queued` wait; more are told to come again. A request that a version has not answered
    after `attempt_s` is given to the fallback, where there is one; a worker that computes for `hang_s` is killed. What
    a worker dies of is tried `most_attempts` times, alone. A worker that grows beyond `resident_bytes` is replaced (0:
    never). A version that is unloaded has `drain_s` for what it was given.
    """

    workers: Count = 1
    most_rows: Count = 256
    batch_s: Seconds = 0.05
    most_queued: Count = 1024
    attempt_s: Seconds = 2.0
    hang_s: Seconds = 10.0
    most_attempts: Count = 2
    resident_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    drain_s: Seconds = 10.0
