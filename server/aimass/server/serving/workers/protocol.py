"""What a front and its worker say to each other: JSON in `frames` to begin with, then tokens of 16 bytes.

A token says what lies in the shared memory: a batch in that of requests, its answer in that of replies. One batch is
underway at a time, so that the memory always belongs to one side.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final

import msgspec

from aimass.proto.confinement import Confinement
from aimass.proto.home import ChildLimits
from aimass.proto.names import Digest
from aimass.proto.servable import TensorSpec
from aimass.proto.values import Value
from aimass.server.serving.workers.memory import Written

__all__ = [
    "ANSWER",
    "BATCH",
    "DIGEST",
    "DIGEST_NAME",
    "ERROR",
    "TOKEN_BYTES",
    "Fault",
    "Open",
    "Opened",
    "read_token",
    "token",
]

BATCH: Final = 1
"""Compute what lies in the memory of requests."""
DIGEST: Final = 2
"""Hash the parameters as they are in memory; the answer is one tensor of one element, `DIGEST_NAME`."""
DIGEST_NAME: Final = "digest"
ANSWER: Final = 3
"""It is done."""
ERROR: Final = 4
"""It failed: the header is an error as `errors.to_wire` writes it."""

_TOKEN: Final = struct.Struct("<IIQ")
TOKEN_BYTES: Final = _TOKEN.size


def token(kind: int, written: Written) -> bytes:
    """A token of this kind."""
    return _TOKEN.pack(kind, written.header_bytes, written.header)


def read_token(data: bytes) -> tuple[int, Written]:
    """Its kind, and what it is about."""
    kind, size, header = _TOKEN.unpack(data)
    return kind, Written(header, size)


class Born(Value, frozen=True):
    """A worker was forked; its handle comes with this."""

    pid: int


class Open(Value, frozen=True):
    """First order: lock yourself in and load the task, if its files hash to `task_digest`, with these parameters.

    With it come the descriptors of both memories, of the parameters and of the task's base, where it has one. `warm`
    are the numbers of rows that it computes before it says that it is ready.
    """

    task: str
    task_digest: Digest
    digest: Digest
    device: str
    scratch: str
    forbidden: str
    parent: int
    limits: ChildLimits
    memory_bytes: Annotated[int, msgspec.Meta(ge=1)]
    warm: tuple[int, ...] = (1, 4)


class Opened(Value, frozen=True):
    """The model is in memory and warm."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    confinement: tuple[Confinement, ...]


class Fault(Value, frozen=True):
    """It could not be opened; `error` is as `errors.to_wire` writes it."""

    error: str
