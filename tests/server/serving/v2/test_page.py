"""docs/inference-protocol.md and docs/serving.md say what is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import numpy as np

from aimass.proto.errors import EXIT_CODES, from_parts
from aimass.proto.v1 import inference_pb2 as pb
from aimass.server.serving.dispatch.requests import Overloaded
from aimass.server.serving.settings import ServeSettings
from aimass.server.serving.v2.errors import grpc_status, http_status
from aimass.server.serving.v2.json_codec import decode_request

DOCS = Path(__file__).parents[4] / "docs"
PAGE = (DOCS / "inference-protocol.md").read_text("utf-8")
SERVING = (DOCS / "serving.md").read_text("utf-8")


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


def test_the_settings_that_the_page_lists_are_all_there_are_with_their_defaults() -> None:
    (block,) = re.findall(r"```toml\n(models = .*?)```", SERVING, re.DOTALL)
    shown = tomllib.loads(block)
    defaults = msgspec.to_builtins(ServeSettings())
    named = {"models", "registry", "trust"}  # which have none
    for name, value in defaults.items():
        if isinstance(value, dict):
            assert {key: value[key] for key in shown.get(name, {})} == shown.get(name, {}), name
        elif name not in named:
            assert shown.get(name) == value, name
    assert set(shown) <= set(defaults)
