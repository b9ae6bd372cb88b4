"""docs/inference-protocol.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from aimass.proto.errors import EXIT_CODES, from_parts
from aimass.proto.v1 import inference_pb2 as pb
from aimass.server.serving.dispatch.requests import Overloaded
from aimass.server.serving.v2.errors import grpc_status, http_status
from aimass.server.serving.v2.json_codec import decode_request

PAGE = (Path(__file__).parents[4] / "docs" / "inference-protocol.md").read_text("utf-8")


def test_the_example_is_a_request() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    read = decode_request(block.encode())
    assert [one.array.shape for one in read.inputs] == [(2, 2), (2,)]
    assert np.isnan(read.inputs[0].array[1, 1])


def test_every_call_of_the_service_is_named() -> None:
    calls = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    assert {name for name in calls if f"`{name}`" not in PAGE} == set()


def test_the_table_of_errors_is_the_one_that_is_used() -> None:
    told = {(int(http), rpc) for http, rpc in re.findall(r"^\| (\d{3})  \| `(\w+)`", PAGE, re.MULTILINE)}
    errors = [Overloaded("full", retry_after_s=1), *(from_parts(kind, "it failed", code="") for kind in EXIT_CODES)]
    used = {(int(http_status(error)), grpc_status(error)) for error in errors}
    assert len(told) == 9
    assert told <= used
