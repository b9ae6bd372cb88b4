from __future__ import annotations

import json

import pytest

from aimass.proto.errors import BadInput
from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.seam import Loaded, ModelState
from aimass.server.serving.v2 import metadata

SPEC = TensorSpec("p", "FP64", (-1, 2), labels=("well", "sick"))


def loaded(version: int) -> Loaded:
    return Loaded("heart", version, "", (TensorSpec("x", "FP32", (-1, 13)),), (SPEC,), 1, 0, 1.0)


HEART = ModelState("heart", "READY", (loaded(10), loaded(9)))
ADULT = ModelState("adult", "UNAVAILABLE", (), reason="its digest does not match")


def test_the_metadata_of_a_model_names_its_versions_and_tensors() -> None:
    assert json.loads(metadata.model_json(loaded(10), metadata.versions_of(HEART))) == {
        "name": "heart",
        "versions": ["9", "10"],
        "platform": "aimass",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 13]}],
        "outputs": [
            {"name": "p", "datatype": "FP64", "shape": [-1, 2], "parameters": {"labels": ["well", "sick"]}},
        ],
    }


def test_the_server_says_its_release_and_its_extensions() -> None:
    said = json.loads(metadata.server_json("0.1.0"))
    assert (said["name"], said["version"]) == ("aimass", "0.1.0")
    assert "binary_tensor_data" in said["extensions"]


def test_the_index_lists_each_version_and_models_without_one() -> None:
    entries = metadata.index_entries([ADULT, HEART])
    assert json.loads(metadata.index_json(entries)) == [
        {"name": "adult", "version": "", "state": "UNAVAILABLE", "reason": "its digest does not match"},
        {"name": "heart", "version": "9", "state": "READY", "reason": ""},
        {"name": "heart", "version": "10", "state": "READY", "reason": ""},
    ]


def test_the_index_of_what_is_ready_leaves_the_rest_out() -> None:
    assert {one.name for one in metadata.index_entries([ADULT, HEART], ready=True)} == {"heart"}


def test_an_empty_body_asks_for_the_whole_index() -> None:
    assert metadata.decode_index_request(b"") is False
    assert metadata.decode_index_request(b'{"ready":true}') is True
    with pytest.raises(BadInput):
        metadata.decode_index_request(b'{"redy":true}')


def test_a_load_brings_nothing_of_its_own() -> None:
    metadata.decode_repository_request(b"")
    metadata.decode_repository_request(b'{"parameters":{"unload_dependents":false}}')
    for name in ("config", "file:1/model.onnx"):
        with pytest.raises(BadInput) as caught:
            metadata.decode_repository_request(json.dumps({"parameters": {name: "x"}}).encode())
        assert caught.value.code == "v2.load_parameters"


def test_health_is_said_in_the_words_of_the_protocol() -> None:
    assert json.loads(metadata.live_json(live=True)) == {"live": True}
    assert json.loads(metadata.ready_json(ready=False)) == {"ready": False}
    assert json.loads(metadata.model_ready_json("heart", ready=True)) == {"name": "heart", "ready": True}
