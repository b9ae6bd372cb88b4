"""Endpoints for whoever runs the service: alive, ready, figures, status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aimass.proto.watch import Reason
from aimass.server.serving.http.endpoints import at_once, later
from aimass.server.serving.http.messages import Response, json_response
from aimass.server.serving.http.routing import Call, Route

__all__ = ["ServiceEndpoints"]

_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


class ServiceEndpoints:
    """What a service tells of itself; see `aimass.proto.watch`, which shows the same at a port of its own."""

    def __init__(
        self,
        reasons: Callable[[], Awaitable[tuple[Reason, ...]]],
        figures: Callable[[], Awaitable[bytes]],
        status: Callable[[], Any],
    ) -> None:
        self._reasons, self._figures, self._status = reasons, figures, status

    def routes(self) -> list[Route]:
        """Health is for all; figures and status for who may see them."""
        return [
            Route("healthz", "GET", "/healthz", None, at_once(lambda _: json_response(200, {"alive": True}))),
            Route("readyz", "GET", "/readyz", None, later(self._ready)),
            Route("metrics", "GET", "/metrics", "see", later(self._metrics)),
            Route("status", "GET", "/status", "see", at_once(lambda _: json_response(200, self._status()))),
        ]

    async def _ready(self, _: Call) -> Response:
        reasons = await self._reasons()
        listed = [{"code": reason.code, "what": reason.what} for reason in reasons]
        return json_response(503 if reasons else 200, {"ready": not reasons, "reasons": listed})

    async def _metrics(self, _: Call) -> Response:
        return Response(200, (await self._figures(),), _PROMETHEUS)
