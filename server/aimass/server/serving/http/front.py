"""From a request to its answer: which endpoint, whether the caller may, how often, and what is counted and logged.

Values of requests and answers are in no log. What is logged of a request is who asked what, how it ended and how long
it took.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from aimass.proto.errors import AimassError
from aimass.proto.meters import Count, Spread
from aimass.server.serving.access import Access, Caller, bearer
from aimass.server.serving.http.connection import Cancel, Reply
from aimass.server.serving.http.endpoints import later
from aimass.server.serving.http.faults import error_response
from aimass.server.serving.http.messages import Request, Response
from aimass.server.serving.http.routing import Call, Endpoint, Route, Routes
from aimass.server.serving.http.whence import whence
from aimass.server.serving.neighbours import neighbourhood
from aimass.server.serving.people import ServedPeople, is_of_person
from aimass.server.serving.rates import Rates
from aimass.server.serving.request_log import RequestLog

__all__ = ["LATENCIES", "Front", "HttpMeters"]

LATENCIES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of what a request takes, in seconds."""
_NO_ROUTE: Final = "none"
_UNASKED: Final = Caller("", ())


class HttpMeters:
    """What the HTTP port counts."""

    def __init__(self) -> None:
        self.requests = Count("aimass_http_requests", "Requests by route and status.", "route", "status", most=256)
        self.seconds = Spread(
            "aimass_http_seconds", "From a whole request to its answer, by route.", "route", bounds=LATENCIES
        )

    def refused(self, status: int) -> None:
        """Count a request that never became one."""
        self.requests.add(_NO_ROUTE, str(status))


class Front:
    """The handler of a `Listener`."""

    def __init__(
        self,
        routes: Iterable[Route],
        access: Access,
        rates: Rates,
        now: Callable[[], float],
        meters: HttpMeters,
        request_log: RequestLog,
        ticks: Callable[[], float] = time.perf_counter,
        people: ServedPeople | None = None,
    ) -> None:
        """`now` is the wall clock, by which tokens end; `ticks` never goes back. Without `people` nobody comes by a
        token of an identity provider."""
        self._routes = Routes(routes)
        self._access, self._rates, self._now, self._meters = access, rates, now, meters
        self._log, self._ticks, self._people = request_log, ticks, people

    def handle(self, request: Request, reply: Reply) -> Cancel | None:
        """See `Handler`."""
        began, name, caller = self._ticks(), _NO_ROUTE, _UNASKED

        def answered(response: Response) -> None:
            self._account(request, name, caller.name, response.status, self._ticks() - began)
            reply(response)

        def admitted(found: Caller) -> Call:
            nonlocal caller
            caller = found
            return Call(request, model, names.get("version", ""), found)

        try:
            route, names = self._routes.find(request.method, request.path)
            name = route.name
            model = names.get("model", "") if route.meant is None else route.meant()
            token = bearer(request.headers.get(b"authorization"))
            if self._people is not None and route.may is not None and token is not None and is_of_person(token):
                admit = functools.partial(self._people.admit, token, route.may)
                return self._later(admit, began, admitted, route.endpoint)(admitted(_UNASKED), answered)
            return route.endpoint(admitted(self._admit(request, route, token, model, began)), answered)
        except AimassError as error:
            answered(error_response(error))
            return None

    def _later(
        self, admit: Callable[[], Awaitable[Caller]], at: float, admitted: Callable[[Caller], Call], endpoint: Endpoint
    ) -> Endpoint:
        """For a person, whose token may have to wait for the provider's keys."""

        async def answer(_: Call) -> Response:
            caller = await admit()
            self._rates.take(caller.name, at)
            return await _answer(endpoint, admitted(caller))

        return later(answer)

    def _admit(self, request: Request, route: Route, token: bytes | None, model: str, at: float) -> Caller:
        if route.may is None:
            return _UNASKED
        certified, came = request.peer.certified, whence(request.headers)
        caller = self._access.admit(token, certified, route.may, model, self._now(), came)
        self._rates.take(caller.name if token is not None else neighbourhood(request.peer.address), at)
        return caller

    def _account(self, request: Request, route: str, caller: str, status: int, seconds: float) -> None:
        self._meters.requests.add(route, str(status))
        self._meters.seconds.observe(seconds, route)
        level = _level(status)
        if self._log.wants(level):
            what, who = f"{request.method} {request.path}", caller or request.peer.address
            self._log.tell(what, who, str(status), seconds, level=level, request=request.id)


async def _answer(endpoint: Endpoint, call: Call) -> Response:
    """What an endpoint replies; who waits no more ends it."""
    replied: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    cancel = endpoint(call, lambda response: None if replied.done() else replied.set_result(response))
    try:
        return await replied
    except asyncio.CancelledError:
        if cancel is not None:
            cancel()
        raise


def _level(status: int) -> int:
    if status < 400:
        return logging.DEBUG
    return logging.INFO if status < 500 else logging.WARNING
