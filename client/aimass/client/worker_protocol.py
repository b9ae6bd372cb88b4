"""What daemon and training child say to each other: framed JSON with descriptors, over one socket pair.

The daemon trusts nothing that comes back: lengths are bounded, JSON is decoded strictly, and a contribution is a
sealed memory file that can no longer change while it is checked.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from aimass.proto.durable import write_all
from aimass.proto.errors import IntegrityError, LimitExceeded, Unavailable
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import EvaluateSettings, Plan, PrivacySettings, TrainSettings
from aimass.proto.rng import stream_seed
from aimass.proto.step import Step, StepKind
from aimass.proto.values import Value

__all__ = ["ChildFault", "Open", "Opened", "Order", "Result", "order_of", "receive", "seal", "sealed_view", "send"]

MAX_MESSAGE: Final = 1 << 20
_MAX_FDS: Final = 250
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8  # seal, shrink, grow, write
_F_ADD_SEALS: Final = 1033
_F_GET_SEALS: Final = 1034


class Open(Value, frozen=True):
    """First order: lock yourself in, load the task if its files hash to `digest`, read the shard's descriptors."""

    task: str
    digest: str
    manifest: ShardManifest
    scratch: str
    forbidden: str
    parent: int
    limits: ChildLimits


class Opened(Value, frozen=True):
    """The child is warm. Counts stay at the partner; `persons` are those of the training rows, 0 where not known."""

    device: str
    confinement: tuple[str, ...]
    training_rows: int
    held_out_rows: int
    persons: int = 0


class Order(Value, frozen=True):
    """Work of one step; descriptors of the model and of the local state that was kept come with it.

    With `privacy` training is private for each row or person; the seed, which the server knows, serves for nothing.
    """

    kind: StepKind
    purpose: str
    seed: str
    train: TrainSettings
    evaluate: EvaluateSettings
    privacy: PrivacySettings | None = None


def order_of(plan: Plan, step: Step, participant: str) -> Order:
    """A participant's work in a step of a plan."""
    seed = stream_seed(plan.seed, participant, f"{step.kind}:{step.purpose}", step.round)
    return Order(
        kind=step.kind,
        purpose=step.purpose,
        seed=seed.hex(),
        train=plan.train,
        evaluate=plan.evaluate,
        privacy=plan.privacy,
    )


class Result(Value, frozen=True):
    """Done; sealed descriptors of the contribution and of the new local state come with it.

    `private_steps` is how many steps of the order's privacy were really done, 0 without: what a ledger commits.
    """

    seconds: float
    private_steps: Annotated[int, msgspec.Meta(ge=0)] = 0


class ChildFault(Value, frozen=True):
    """It failed. `code` and `place` may leave the partner, and so have no room for rows; `detail` never leaves."""

    code: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]{1,40}\.[A-Za-z_]{1,40}\Z")]
    place: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]{1,40}/[A-Za-z_]{1,40}\.py:[0-9]{1,6}\Z")]
    detail: str


def send(link: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message."""
    header = struct.pack("<IH", len(data), len(descriptors))
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    link.sendmsg([header], ancillary)
    link.sendall(data)


def receive(link: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    """Receive one message; raises `Unavailable` where the other side is gone, `LimitExceeded` for a huge one."""
    space = socket.CMSG_SPACE(_MAX_FDS * 4)
    header, ancillary, _, _ = link.recvmsg(6, space, socket.MSG_WAITALL)
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) - len(payload) % 4])
    if len(header) < 6:
        raise Unavailable("the training child has ended", code="child.gone")
    length, count = struct.unpack("<IH", header)
    if length > MAX_MESSAGE or count != len(descriptors):
        for descriptor in descriptors:
            os.close(descriptor)
        raise LimitExceeded("a message of the training child is not allowed", code="child.message", value=length)
    parts = bytearray()
    while len(parts) < length:
        part = link.recv(length - len(parts))
        if not part:
            raise Unavailable("the training child has ended", code="child.gone")
        parts += part
    return bytes(parts), tuple(descriptors)


def seal(parts: Iterable[bytes | memoryview]) -> int:
    """A sealed memory file with `parts`, one after the other."""
    descriptor = os.memfd_create("aimass", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    for part in parts:
        write_all(descriptor, part)
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)
    return descriptor


def sealed_view(descriptor: int, max_bytes: int) -> memoryview:
    """The bytes behind a descriptor that the child sent; raises `IntegrityError` unless nobody can change them."""
    import mmap  # noqa: PLC0415

    try:
        if fcntl.fcntl(descriptor, _F_GET_SEALS) & _SEALS != _SEALS:
            raise IntegrityError("the training child's result is not sealed", code="child.not_sealed")
        size = os.fstat(descriptor).st_size
        if size > max_bytes:
            raise LimitExceeded(
                "the training child's result is too large", code="child.size", value=size, limit=max_bytes
            )
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else b"")
    finally:
        os.close(descriptor)
