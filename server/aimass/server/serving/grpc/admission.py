"""Who may call over gRPC: the same decision as over HTTP, over a call's metadata and certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aimass.proto.grpc_env import grpc
from aimass.server.serving.access import Access, Caller, Whence, bearer
from aimass.server.serving.grpc.calls import address_of
from aimass.server.serving.neighbours import neighbourhood
from aimass.server.serving.rates import Rates
from aimass.server.serving.tokens import May

__all__ = ["AnyCaller", "GrpcAdmission"]

_OF_PROXIES: Final = ("x-forwarded-for", "forwarded")


class GrpcAdmission:
    """See `calls.Admission`. `now` is the wall clock, by which tokens end; `ticks` never goes back."""

    def __init__(self, access: Access, rates: Rates, now: Callable[[], float], ticks: Callable[[], float]) -> None:
        self._access, self._rates, self._now, self._ticks = access, rates, now, ticks

    def admit(self, context: grpc.aio.ServicerContext, may: May, model: str) -> Caller:
        """See `calls.Admission`."""
        caller = self.known(context, may, model)
        who = caller.name if _token(context) is not None else neighbourhood(address_of(context))
        self._rates.take(who, self._ticks())
        return caller

    def known(self, context: grpc.aio.ServicerContext, may: May, model: str) -> Caller:
        """See `calls.Admission`."""
        said = _said(context)
        whence: Whence = "passed on" if any(name in said for name in _OF_PROXIES) else "here"
        certified = next(iter(context.auth_context().get("x509_common_name", ())), b"").decode("utf-8", "replace")
        return self._access.admit(_token(context), certified, may, model, self._now(), whence)


class AnyCaller:
    """Admits whoever asks for health, by address: probes hold no token."""

    async def admit(self, context: grpc.aio.ServicerContext, name: str) -> Caller:
        """See `health.Doors`."""
        return Caller(address_of(context))


def _said(context: grpc.aio.ServicerContext) -> dict[str, str | bytes]:
    return dict(context.invocation_metadata() or ())


def _token(context: grpc.aio.ServicerContext) -> bytes | None:
    return bearer(_octets(_said(context).get("authorization")))


def _octets(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
