from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from aimass.proto.errors import EXIT_CODES, AimassError, BadInput, InternalError, from_parts
from aimass.proto.grpc_env import grpc
from aimass.server.serving.dispatch.requests import (
    InvalidOutput,
    ModelUnknown,
    NotReady,
    Overloaded,
    QueueDeadline,
    WorkerLost,
)
from aimass.server.serving.v2.errors import error_body, grpc_status, http_status


@pytest.mark.parametrize(
    ("error", "http", "rpc"),
    [
        (BadInput("wrong"), 400, "INVALID_ARGUMENT"),
        (BadInput("the body is encoded", code="http.encoding"), 415, "INVALID_ARGUMENT"),
        (ModelUnknown("m"), 404, "NOT_FOUND"),
        (Overloaded("full", retry_after_s=1), 429, "RESOURCE_EXHAUSTED"),
        (NotReady("m"), 503, "UNAVAILABLE"),
        (WorkerLost("m", 1, "died"), 503, "UNAVAILABLE"),
        (QueueDeadline("m"), 504, "DEADLINE_EXCEEDED"),
        (InvalidOutput("m", 1, "NaN"), 500, "INTERNAL"),
    ],
)
def test_each_way_to_fail_has_the_status_that_clients_act_upon(error: AimassError, http: int, rpc: str) -> None:
    assert (http_status(error), grpc_status(error)) == (http, rpc)


def test_every_kind_of_error_has_a_status() -> None:
    for kind in EXIT_CODES:
        error = from_parts(kind, "it failed", code="")
        assert http_status(error) >= HTTPStatus.BAD_REQUEST
        assert hasattr(grpc.StatusCode, grpc_status(error))


def test_the_body_says_what_was_wrong_and_its_code() -> None:
    said = json.loads(error_body(BadInput("the shape is wrong", code="tensor.shape", cure="Correct it.")))
    assert said == {"error": "the shape is wrong. Correct it.", "code": "tensor.shape"}


def test_a_fault_of_ours_is_not_told_in_words() -> None:
    assert b"secret" not in error_body(InternalError("secret"))
