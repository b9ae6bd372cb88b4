"""What stands around every unary call of a service: the gate before it, named errors after it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aimass.proto.errors import AimassError, InternalError
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.wire import abort
from aimass.server.gate import Gate

__all__ = ["guarded"]

log = logging.getLogger("aimass.server")
Method = Callable[..., Awaitable[pb.Document]]


class Gated(Protocol):
    """A service behind a gate."""

    gate: Gate


def guarded(method: Method) -> Method:
    """Admit the caller by the table, and let named errors cross the wire as they are."""

    @functools.wraps(method)
    async def guarded(self: Gated, request: Any, context: grpc.aio.ServicerContext) -> pb.Document:
        try:
            return await method(self, request, await self.gate.admit(context, method.__name__))
        except AimassError as error:
            log.info("%s refused: %s", method.__name__, error)
            await abort(context, error)
        except Exception:
            log.exception("%s failed", method.__name__)
            await abort(context, InternalError("the server failed; its log says where", code="internal.server"))

    return guarded
