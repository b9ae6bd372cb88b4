"""Who may call over gRPC: the same decision as over HTTP, over a call's metadata and certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from aimass.proto.grpc_env import grpc
from aimass.server.serving.access import Access, bearer
from aimass.server.serving.grpc.calls import address_of
from aimass.server.serving.rates import Rates
from aimass.server.serving.tokens import May

__all__ = ["AnyCaller", "Caller", "GrpcAdmission"]

_OF_PROXIES: Final = ("x-forwarded-for", "forwarded")


class Caller(msgspec.Struct, frozen=True):
    """Somebody who is known by an address."""

    name: str


class GrpcAdmission:
    """See `calls.Admission`. `now` is the wall clock, by which tokens end; `ticks` never goes back."""

    def __init__(self, access: Access, rates: Rates, now: Callable[[], float], ticks: Callable[[], float]) -> None:
        self._access, self._rates, self._now, self._ticks = access, rates, now, ticks

    def admit(self, context: grpc.aio.ServicerContext, may: May, model: str) -> str:
        """See `calls.Admission`."""
        said = dict(context.invocation_metadata() or ())
        token = bearer(_octets(said.get("authorization")))
        near = not any(name in said for name in _OF_PROXIES)
        certified = next(iter(context.auth_context().get("x509_common_name", ())), b"").decode("utf-8", "replace")
        caller = self._access.admit(token, certified, may, model, self._now(), near=near)
        self._rates.take(caller if token is not None else address_of(context), self._ticks())
        return caller


class AnyCaller:
    """Admits whoever asks for health, by address: probes hold no token."""

    def admit(self, context: grpc.aio.ServicerContext, name: str) -> Caller:
        """See `health.Doors`."""
        return Caller(address_of(context))


def _octets(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
