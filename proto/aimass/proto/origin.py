"""Where a run comes from that computes elsewhere than at partners: over which data set, and on what."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from aimass.proto.names import Digest
from aimass.proto.values import Value

__all__ = ["Origin", "Schedule"]

Schedule = Literal["averaging", "synchronous"]


class Origin(Value, frozen=True):
    """Of an offline run: the data set as NAME@N with the digest of its manifest, so many shards, how they are trained
    on in how many rounds at most, and the engine in words."""

    data_set: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    manifest: Digest
    shards: Annotated[int, msgspec.Meta(ge=1)]
    rounds: Annotated[int, msgspec.Meta(ge=0)] = 0
    schedule: Schedule = "averaging"
    engine: Annotated[str, msgspec.Meta(max_length=200)] = ""
