"""What a server tells the driver of an offline run that it starts."""

from __future__ import annotations

from typing import Final

from aimass.proto.origin import Schedule
from aimass.proto.values import Value

__all__ = ["FIRST", "WORK", "Order"]

FIRST: Final = "first.safetensors"
"""The first model, in the folder that a server keeps for a run's driver."""
WORK: Final = "work"
"""Scratch and shards, there."""


class Order(Value, frozen=True):
    """What a driver is to do: files of plan and first model, the data set, stores as in `runs.Job`, and who works."""

    plan: str
    model: str
    data_set: str
    stores: tuple[str, ...]
    out: str
    workers: int
    master: str = ""
    schedule: Schedule = "averaging"
