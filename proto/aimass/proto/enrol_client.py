"""The newcomer's side of the enrolment port: send the request, wait for the root holder's answer, survive breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aimass.proto.errors import Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import connect, error_of

__all__ = ["enrol"]

_RETRY_S = 2.0


async def enrol(address: str, root_pem: bytes, request: bytes, pending: Callable[[str], None]) -> bytes:
    """The bundle with the newcomer's certificate; `pending` is told the request's fingerprint once it is there.

    Raises the server's refusal. A link that breaks while waiting is made again.
    """
    told = False
    while True:
        channel = connect(address, root_pem)
        try:
            async for reply in rpc.EnrolmentStub(channel).Enrol(pb.EnrolRequest(request=request)):
                kind = reply.WhichOneof("body")
                if kind == "bundle":
                    return bytes(reply.bundle)
                if kind == "pending" and not told:
                    pending(reply.pending.fingerprint)
                    told = True
        except grpc.aio.AioRpcError as raised:
            error = error_of(raised)
            if not isinstance(error, Unavailable) or not told:
                raise error from None
        finally:
            await channel.close()
        await asyncio.sleep(_RETRY_S)
