"""Named errors as answers of HTTP: status, a JSON object, and the headers that tell a client what to do."""

from __future__ import annotations

import math

from aimass.proto.errors import AimassError, Unauthenticated, Unavailable
from aimass.server.serving.dispatch.requests import Overloaded
from aimass.server.serving.http.messages import Response
from aimass.server.serving.http.routing import MethodRefused
from aimass.server.serving.v2.errors import error_body, http_status

__all__ = ["error_response"]


def error_response(error: AimassError) -> Response:
    """The answer that tells of `error`."""
    status = 405 if isinstance(error, MethodRefused) else int(http_status(error))
    return Response(status, (error_body(error),), headers=_headers(error))


def _headers(error: AimassError) -> dict[str, str]:
    match error:
        case MethodRefused():
            return {"Allow": ", ".join(error.allowed)}
        case Unauthenticated():
            return {"WWW-Authenticate": 'Bearer realm="aimass"'}
        case Overloaded():
            return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
        case Unavailable():
            return {"Retry-After": "1"}
        case _:
            return {}
