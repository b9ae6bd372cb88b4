"""The RPC by which a partner asks for a model as its difference to one that it holds, before it fetches either.

The answer is an offer, digest and size of the difference, which is then fetched as any blob is, resumed and verified;
or none, and the whole model is fetched. A server that is older does not know the call, which is none too.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from aimass.proto.errors import AimassError
from aimass.proto.grpc_env import grpc
from aimass.proto.logs import about
from aimass.proto.names import Digest
from aimass.proto.rpc_errors import abort, error_of
from aimass.proto.transfer import SERVICE, Size
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["DifferenceRequest", "Differences", "Offer", "difference_handler", "offered"]

log = logging.getLogger("aimass.transfer")
_DIFFERENCE: Final = f"/{SERVICE}/Difference"
_MOST_BYTES: Final = 4_096


class DifferenceRequest(Value, frozen=True):
    """From the model that is `held` to the one that is `wanted`, both of a run that the caller takes part in."""

    run_id: str
    held: Digest
    wanted: Digest


class Offer(Value, frozen=True):
    """A difference that may be fetched."""

    digest: Digest
    bytes: Size


class _Answer(Value, frozen=True):
    offer: Offer | None = None


class Differences(Protocol):
    """Who may have which difference."""

    async def difference(self, context: grpc.aio.ServicerContext, request: DifferenceRequest) -> Offer | None:
        """What this caller may fetch in place of the model, if there is anything; raises `Refused`."""
        ...


def difference_handler(differences: Differences) -> grpc.GenericRpcHandler:
    """The RPC `Difference` of `aimass.v1.Blobs` for a grpc.aio server."""

    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            wanted = decode_json(DifferenceRequest, request[:_MOST_BYTES], "the request for a difference")
            return canonical_json(_Answer(offer=await differences.difference(context, wanted)))
        except AimassError as error:
            about(log).warning("a difference was refused: %s", error)
            await abort(context, error)

    return grpc.method_handlers_generic_handler(SERVICE, {"Difference": grpc.unary_unary_rpc_method_handler(answer)})


async def offered(channel: grpc.aio.Channel, request: DifferenceRequest, within_s: float) -> Offer | None:
    """The server's offer; None where it has none, is older than this call, or needs longer than `within_s`.

    Raises what the server refuses by name, and `Unavailable` for a broken link.
    """
    try:
        answer = await channel.unary_unary(_DIFFERENCE)(canonical_json(request), timeout=within_s)
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DEADLINE_EXCEEDED):
            return None
        raise error_of(error) from error
    return decode_json(_Answer, answer, "the server's offer").offer
