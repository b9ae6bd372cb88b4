"""What stands around every call over gRPC: who may, how it ended, and that nothing of ours leaks when it fails."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, Protocol

from aimass.proto.errors import METADATA_KEY, AimassError, InternalError, to_wire
from aimass.proto.grpc_env import grpc
from aimass.proto.meters import Count, Spread
from aimass.server.serving.access import Caller
from aimass.server.serving.dispatch.requests import Overloaded
from aimass.server.serving.http.front import LATENCIES
from aimass.server.serving.request_log import RequestLog
from aimass.server.serving.tokens import May
from aimass.server.serving.v2.errors import grpc_status

__all__ = ["Admission", "GrpcMeters", "Guarded", "address_of", "answered"]

log = logging.getLogger("aimass.serving")
_OK: Final = "OK"
_PUSHBACK: Final = "grpc-retry-pushback-ms"
"""After how long a client that retries by itself shall do so (gRPC, "Retry Design")."""
Call = Callable[[Any, Any, grpc.aio.ServicerContext], Awaitable[Any]]


class Admission(Protocol):
    """Who may call."""

    def admit(self, context: grpc.aio.ServicerContext, may: May, model: str) -> Caller:
        """The caller; raises `Unauthenticated`, `Refused` or `Overloaded`."""
        ...

    def known(self, context: grpc.aio.ServicerContext, may: May, model: str) -> Caller:
        """The same, once more for a call that is counted already."""
        ...


def address_of(context: grpc.aio.ServicerContext) -> str:
    """Whence a call comes, without the port: of `ipv4:10.0.0.7:50412` that is `10.0.0.7`."""
    kind, _, rest = str(context.peer()).partition(":")
    return rest.rpartition(":")[0] if kind in {"ipv4", "ipv6"} else kind


class GrpcMeters:
    """What the gRPC port counts."""

    def __init__(self) -> None:
        self.calls = Count("aimass_grpc_calls", "Calls by method and status.", "method", "status", most=256)
        self.seconds = Spread(
            "aimass_grpc_seconds", "From a whole call to its answer, by method.", "method", bounds=LATENCIES
        )


class Guarded(Protocol):
    """A service whose calls are admitted and counted."""

    admission: Admission
    meters: GrpcMeters
    request_log: RequestLog


def answered(may: May | None, model: str = "") -> Callable[[Call], Call]:
    """Admit callers who `may`, all where it is None, to the model under the message's field `model`.

    Named errors cross the wire as they are. What nobody foresaw is logged, and its text stays here.
    """

    def around(call: Call) -> Call:
        @functools.wraps(call)
        async def answered(self: Guarded, message: Any, context: grpc.aio.ServicerContext) -> Any:
            began, status, caller = time.perf_counter(), "CANCELLED", ""
            try:
                if may is not None:
                    caller = self.admission.admit(context, may, getattr(message, model) if model else "").name
                answer = await call(self, message, context)
                status = _OK
            except AimassError as error:
                status = grpc_status(error)
                await _abort(context, error)
            except Exception:
                status = "INTERNAL"
                log.exception("%s failed", call.__name__)
                await _abort(context, InternalError("the server failed; its log says where", code="internal.server"))
            finally:
                _account(self, call.__name__, caller or address_of(context), status, time.perf_counter() - began)
            return answer

        return answered

    return around


def _account(service: Guarded, method: str, caller: str, status: str, seconds: float) -> None:
    """Count a call, and log it where that is asked for: who asked what and how it ended, never a value."""
    service.meters.calls.add(method, status)
    service.meters.seconds.observe(seconds, method)
    level = logging.DEBUG if status == _OK else logging.INFO
    service.request_log.tell(f"call {method}", caller, status, seconds, level=level)


async def _abort(context: grpc.aio.ServicerContext, error: AimassError) -> NoReturn:
    """End the call with the status that a client of the protocol acts upon, and the sentence as its text."""
    text = error.what if isinstance(error, InternalError) else error.sentence()
    said: tuple[tuple[str, str | bytes], ...] = ((METADATA_KEY, to_wire(error)),)
    if isinstance(error, Overloaded):
        said += ((_PUSHBACK, str(math.ceil(1000 * error.retry_after_s))),)
    await context.abort(getattr(grpc.StatusCode, grpc_status(error)), text, trailing_metadata=said)
    raise AssertionError("abort returned")
