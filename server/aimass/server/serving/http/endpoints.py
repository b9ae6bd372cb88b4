"""Endpoints from plain functions: those that answer at once, and those that wait for something."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aimass.proto.errors import AimassError, LimitExceeded
from aimass.proto.logs import subject
from aimass.server.serving.http.connection import Cancel, Reply
from aimass.server.serving.http.faults import error_response
from aimass.server.serving.http.messages import JSON, Response, json_response
from aimass.server.serving.http.routing import Call, Endpoint

__all__ = ["at_once", "bound_json", "failed", "later", "raw_json"]

log = logging.getLogger("aimass.serving")
FAILED: Final = "the server failed; its log says where"


def raw_json(body: bytes, status: int = 200) -> Response:
    """An answer of JSON that is written already."""
    return Response(status, (body,), JSON)


def bound_json(size: int, most: int) -> None:
    """Raise `LimitExceeded` where a request's JSON is longer than `most` bytes: while it is read nobody is answered."""
    if size > most:
        raise LimitExceeded(
            "the JSON of a request is too long",
            code="http.json_bytes",
            value=size,
            limit=most,
            cure="Send fewer rows at once, or tensors as bytes after the JSON.",
        )


def at_once(answer: Callable[[Call], Response]) -> Endpoint:
    """An endpoint that computes its answer in no time."""

    def endpoint(call: Call, reply: Reply) -> None:
        reply(answer(call))

    return endpoint


def later(answer: Callable[[Call], Awaitable[Response]]) -> Endpoint:
    """An endpoint that waits; it is cancelled where nobody waits for it any more."""
    open_: set[asyncio.Task[None]] = set()

    def endpoint(call: Call, reply: Reply) -> Cancel:
        async def run() -> None:
            try:
                response = await answer(call)
            except AimassError as error:
                response = error_response(error)
            except Exception as error:  # noqa: BLE001  (it is logged, and who asked gets an answer)
                response = failed(call, error)
            reply(response)

        task = asyncio.get_running_loop().create_task(run())
        open_.add(task)
        task.add_done_callback(open_.discard)
        return task.cancel

    return endpoint


def failed(call: Call, error: Exception) -> Response:
    """The answer to a request that met a fault of ours, which the log tells."""
    request = call.request
    log.error("%s %s failed", request.method, request.path, exc_info=error, extra=subject(request=request.id))
    return json_response(500, {"error": FAILED})
