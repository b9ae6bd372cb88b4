"""What stands around every call over gRPC: who may, how it ended, and that nothing of ours leaks when it fails."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, NoReturn, Protocol

from aimass.proto.errors import METADATA_KEY, AimassError, InternalError, to_wire
from aimass.proto.grpc_env import grpc
from aimass.proto.meters import Count, Spread
from aimass.server.serving.v2.errors import grpc_status

__all__ = ["Admission", "GrpcMeters", "Guarded", "answered"]

log = logging.getLogger("aimass.serving")
_LATENCIES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of what a call takes, in seconds."""
May = Literal["infer", "see", "manage"]
_OK: Final = "OK"
Call = Callable[[Any, Any, grpc.aio.ServicerContext], Awaitable[Any]]


class Admission(Protocol):
    """Who may call."""

    def admit(self, context: grpc.aio.ServicerContext, may: May, model: str) -> str:
        """The caller's name; raises `Unauthenticated`, `Refused` or `Overloaded`."""
        ...


class GrpcMeters:
    """What the gRPC port counts."""

    def __init__(self) -> None:
        self.calls = Count("aimass_grpc_calls", "Calls by method and status.", "method", "status", most=256)
        self.seconds = Spread(
            "aimass_grpc_seconds", "From a whole call to its answer, by method.", "method", bounds=_LATENCIES
        )


class Guarded(Protocol):
    """A service whose calls are admitted and counted."""

    admission: Admission
    meters: GrpcMeters


def answered(may: May | None, model: str = "") -> Callable[[Call], Call]:
    """Admit callers who `may`, all where it is None, to the model under the message's field `model`.

    Named errors cross the wire as they are. What nobody foresaw is logged, and its text stays here.
    """

    def around(call: Call) -> Call:
        @functools.wraps(call)
        async def answered(self: Guarded, message: Any, context: grpc.aio.ServicerContext) -> Any:
            began, status = time.perf_counter(), "CANCELLED"
            try:
                if may is not None:
                    self.admission.admit(context, may, getattr(message, model) if model else "")
                answer = await call(self, message, context)
                status = _OK
            except AimassError as error:
                status = grpc_status(error)
                log.info("%s failed: %s", call.__name__, error)
                await _abort(context, error)
            except Exception:
                status = "INTERNAL"
                log.exception("%s failed", call.__name__)
                await _abort(context, InternalError("the server failed; its log says where", code="internal.server"))
            finally:
                self.meters.calls.add(call.__name__, status)
                self.meters.seconds.observe(time.perf_counter() - began, call.__name__)
            return answer

        return answered

    return around


async def _abort(context: grpc.aio.ServicerContext, error: AimassError) -> NoReturn:
    """End the call with the status that a client of the protocol acts upon, and the sentence as its text."""
    text = error.what if isinstance(error, InternalError) else error.sentence()
    await context.abort(
        getattr(grpc.StatusCode, grpc_status(error)), text, trailing_metadata=((METADATA_KEY, to_wire(error)),)
    )
    raise AssertionError("abort returned")
