"""The way to the server, as a run sees it: over whatever connection there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb

__all__ = ["Uplink"]

T = TypeVar("T")


class Uplink(Protocol):
    """The way to the server: messages now or never, and transfers over whatever connection there is."""

    def send(self, message: pb.FromPartner) -> None:
        """Queue a message for the current connection; dropped where there is none (the server asks again)."""
        ...

    async def transfer(self, use: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        """Run `use` over the connection, as soon as there is one; raises `Unavailable` when that connection ends."""
        ...
