"""How long the gRPC port waits for a call's message: a caller who sends none would hold one of few places for ever.

The library starts a call when its headers have come, and counts it from then on. So each call is taken as a stream of
one message, which has to come in time; on the wire that is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aimass.proto.errors import BadInput, DeadlinePassed
from aimass.proto.grpc_env import grpc
from aimass.proto.rpc_errors import abort

__all__ = ["Patient"]


class Patient:
    """A server to which a service of calls with one message each is added; a message has `request_s` to come."""

    def __init__(self, server: grpc.aio.Server, request_s: float) -> None:
        self._server, self._request_s = server, request_s

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same handlers come as registered ones too; see the generated code."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Add the methods of a service, each with patience."""
        patient = {name: _patient(handler, self._request_s) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, patient),))
        self._server.add_registered_method_handlers(service, patient)


def _patient(handler: grpc.RpcMethodHandler, request_s: float) -> grpc.RpcMethodHandler:
    call = handler.unary_unary

    async def patient(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
        try:
            async with asyncio.timeout(request_s):
                message = await anext(messages)
        except TimeoutError:
            late = DeadlinePassed("the message of a call did not come", code="serving.slow", limit=f"{request_s:g} s")
            await abort(context, late)
        except StopAsyncIteration:
            await abort(context, BadInput("a call came without its message", code="serving.no_message"))
        return await call(message, context)

    return grpc.stream_unary_rpc_method_handler(patient, handler.request_deserializer, handler.response_serializer)
