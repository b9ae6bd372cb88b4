"""Named errors across an RPC: out as a status with details in the trailing metadata, in as the same error again."""

from __future__ import annotations

from typing import Final, NoReturn

from aimass.proto.errors import (
    METADATA_KEY,
    AimassError,
    DeadlinePassed,
    InternalError,
    LimitExceeded,
    NotFound,
    Unauthenticated,
    Unavailable,
    from_wire,
    status_name,
    to_wire,
)
from aimass.proto.grpc_env import grpc

__all__ = ["abort", "error_of"]

_HANDSHAKE: Final = ("CERTIFICATE_VERIFY_FAILED", "Ssl handshake failed", "SSL_ERROR", "Hostname Verification")


async def abort(context: grpc.aio.ServicerContext, error: AimassError) -> NoReturn:
    """End the RPC with `error`."""
    await context.abort(
        getattr(grpc.StatusCode, status_name(error)), error.what, trailing_metadata=((METADATA_KEY, to_wire(error)),)
    )
    raise AssertionError("abort returned")


def error_of(error: grpc.aio.AioRpcError) -> AimassError:
    """The named error behind a failed RPC; a broken link is `Unavailable`, a refused handshake says so."""
    for key, value in error.trailing_metadata() or ():
        if key == METADATA_KEY:
            return from_wire(bytes(value))
    details = (error.details() or "").split("\n", maxsplit=1)[0][:300]
    code = error.code()
    if code == grpc.StatusCode.UNAVAILABLE:
        if any(sign in details for sign in _HANDSHAKE):
            return Unavailable(
                f"the TLS handshake failed: {details}",
                code="wire.handshake",
                cure="Check the server's host name, both certificates' dates, and that both come from one root.",
            )
        return Unavailable(
            f"the server cannot be reached: {details}",
            code="wire.unreachable",
            cure="Check the addresses in client.toml, one for work and one for enrolment, and that the server runs.",
        )
    if code == grpc.StatusCode.INTERNAL and "from Core" in details:
        # What the library says of a stream whose connection broke under it.
        return Unavailable("the connection broke", code="wire.broken")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return LimitExceeded(f"a message is too large: {details}", code="wire.message_size")
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return Unauthenticated(details or "not authenticated", code="wire.unauthenticated")
    if code == grpc.StatusCode.CANCELLED:
        # The channel was closed under the call, as happens when a connection ends: the same call may succeed later.
        return Unavailable("the connection was closed", code="wire.cancelled")
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassed("the server did not answer in time", code="wire.deadline")
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return NotFound(
            "what answers at this address does not serve this call",
            code="wire.other_service",
            cure="Check the addresses in client.toml: work and enrolment have a port each.",
        )
    return InternalError(f"the call failed with {code.name}: {details}", code="wire.failed")
