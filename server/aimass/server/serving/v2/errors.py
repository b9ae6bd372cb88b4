"""Errors as clients of the protocol see them: an HTTP status and a JSON object, or a gRPC status.

The protocol says only that a failure has an error status, "typically 400", and an object with `error`. The table gives
each kind of error the status that a load balancer or a retrying client acts upon; `code` beside the text is for
programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from aimass.proto.errors import AimassError, InternalError, LimitExceeded, status_name

__all__ = ["error_body", "grpc_status", "http_status"]

_HTTP: Final[Mapping[str, HTTPStatus]] = {
    "bad_input": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "refused": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "wrong_state": HTTPStatus.CONFLICT,
    "version": HTTPStatus.BAD_REQUEST,
    "limit": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "out_of_space": HTTPStatus.INSUFFICIENT_STORAGE,
    "integrity": HTTPStatus.INTERNAL_SERVER_ERROR,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "deadline": HTTPStatus.GATEWAY_TIMEOUT,
    "not_installed": HTTPStatus.NOT_IMPLEMENTED,
    "stopped": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}
_BY_CODE: Final[Mapping[str, tuple[HTTPStatus, str]]] = {
    "serving.overloaded": (HTTPStatus.TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
    "http.encoding": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "INVALID_ARGUMENT"),
    "serving.rate": (HTTPStatus.TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
    "serving.input_unknown": (HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT"),
}
"""Where one code means something else to a client than its kind does to a command."""


def http_status(error: AimassError) -> HTTPStatus:
    """The status of the answer that tells of `error`."""
    found = _BY_CODE.get(error.code)
    return found[0] if found else _HTTP[error.kind]


def grpc_status(error: AimassError) -> str:
    """The name of the gRPC status that tells of `error`."""
    found = _BY_CODE.get(error.code)
    if found:
        return found[1]
    return "RESOURCE_EXHAUSTED" if isinstance(error, LimitExceeded) else status_name(error)  # as gRPC's own limits end


def error_body(error: AimassError) -> bytes:
    """The JSON object that tells of `error`; a fault of ours is not told in words."""
    text = "internal error" if isinstance(error, InternalError) else error.sentence()
    return msgspec.json.encode({"error": text, "code": error.code})
