"""Messages with descriptors between a process and its child, over one socket pair, and what can no longer change.

Each side trusts nothing that comes from the other: lengths are bounded, and large data comes as a sealed memory file.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from aimass.proto.durable import write_all
from aimass.proto.errors import IntegrityError, LimitExceeded, Unavailable

__all__ = ["MAX_MESSAGE", "given_away", "receive", "received", "seal", "sealed_view", "send"]

MAX_MESSAGE: Final = 1 << 20
_MAX_FDS: Final = 250
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8  # seal, shrink, grow, write
_F_ADD_SEALS: Final = 1033
_F_GET_SEALS: Final = 1034


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
        raise Unavailable("the other process has ended", code="child.gone")
    length, count = struct.unpack("<IH", header)
    if length > MAX_MESSAGE or count != len(descriptors):
        for descriptor in descriptors:
            os.close(descriptor)
        raise LimitExceeded("a message of the other process is not allowed", code="child.message", value=length)
    parts = bytearray()
    while len(parts) < length:
        part = link.recv(length - len(parts))
        if not part:
            raise Unavailable("the other process has ended", code="child.gone")
        parts += part
    return bytes(parts), tuple(descriptors)


async def received(link: socket.socket) -> bytes:
    """A message without descriptors, for who holds an event loop and a link that does not block; raises as above."""
    length, count = struct.unpack("<IH", await _exactly(link, 6))
    if length > MAX_MESSAGE or count:
        raise LimitExceeded("a message of the other process is not allowed", code="child.message", value=length)
    return await _exactly(link, length)


async def _exactly(link: socket.socket, size: int) -> bytes:
    import asyncio  # noqa: PLC0415  (a child that only answers needs none)

    parts = bytearray()
    while len(parts) < size:
        part = await asyncio.get_running_loop().sock_recv(link, size - len(parts))
        if not part:
            raise Unavailable("the other process has ended", code="child.gone")
        parts += part
    return bytes(parts)


def seal(parts: Iterable[bytes | memoryview]) -> int:
    """A sealed memory file with `parts`, one after the other."""
    descriptor = os.memfd_create("aimass", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    for part in parts:
        write_all(descriptor, part)
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)
    return descriptor


def given_away(parts: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The parts in order, out of the list: one that was copied is held by nobody here while the next one is."""
    parts.reverse()
    while parts:
        yield parts.pop()


def sealed_view(descriptor: int, max_bytes: int) -> memoryview:
    """The bytes behind a descriptor of the other process; raises `IntegrityError` unless nobody can change them."""
    import mmap  # noqa: PLC0415

    try:
        if fcntl.fcntl(descriptor, _F_GET_SEALS) & _SEALS != _SEALS:
            raise IntegrityError("what the other process made is not sealed", code="child.not_sealed")
        size = os.fstat(descriptor).st_size
        if size > max_bytes:
            raise LimitExceeded(
                "what the other process made is too large", code="child.size", value=size, limit=max_bytes
            )
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else b"")
    finally:
        os.close(descriptor)
