"""Who may call over gRPC: the same decision as over HTTP, over a call's metadata and certificate."""

from __future__ import annotations

from collections.abc import Callable

from aimass.proto.grpc_env import grpc
from aimass.server.serving.access import Access, bearer
from aimass.server.serving.grpc.calls import address_of
from aimass.server.serving.rates import Rates
from aimass.server.serving.tokens import May

__all__ = ["GrpcAdmission"]


class GrpcAdmission:
    """See `calls.Admission`. `now` is the wall clock, by which tokens end; `ticks` never goes back."""

    def __init__(self, access: Access, rates: Rates, now: Callable[[], float], ticks: Callable[[], float]) -> None:
        self._access, self._rates, self._now, self._ticks = access, rates, now, ticks

    def admit(self, context: grpc.aio.ServicerContext, may: May, model: str) -> str:
        """See `calls.Admission`."""
        token = bearer(_header(context))
        certified = next(iter(context.auth_context().get("x509_common_name", ())), b"").decode("utf-8", "replace")
        caller = self._access.admit(token, certified, may, model, self._now())
        self._rates.take(caller if token is not None else address_of(context), self._ticks())
        return caller


def _header(context: grpc.aio.ServicerContext) -> bytes | None:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization":
            return value if isinstance(value, bytes) else value.encode()
    return None
