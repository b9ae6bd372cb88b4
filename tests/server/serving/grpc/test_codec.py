from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.servable import DTYPES
from aimass.proto.v1 import inference_pb2 as pb
from aimass.server.serving.grpc.codec import decode_request, encode_response
from aimass.server.serving.v2.elements import pack
from aimass.server.serving.v2.values import InferRequest, InferResponse, Tensor
from tests.server.serving.v2.support import same, tensors

TYPED = tuple(name for name in DTYPES if name not in {"FP16", "BF16"})
X: dict[str, Any] = {"name": "x", "datatype": "INT8", "shape": [2]}


def asked(*tensors: Tensor, raw: bool) -> pb.ModelInferRequest:
    """A request as a client would write it: the answer to it says the same."""
    answer = encode_response(
        InferResponse(model_name="m", model_version="1", outputs=tensors),
        InferRequest(inputs=(), binary_outputs=raw),
    )
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=answer.raw_output_contents)
    for one in answer.outputs:
        message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if not raw:
            message.inputs[-1].contents.CopyFrom(one.contents)
    return message


@given(tensors())
def test_raw_contents_are_read_to_the_bit(tensor: Tensor) -> None:
    request = decode_request(asked(tensor, raw=True))
    (read,) = request.inputs
    assert pack(read.datatype, read.array) == pack(tensor.datatype, tensor.array)
    assert read.array.shape == tensor.array.shape
    assert request.binary_outputs


@given(tensors(datatypes=TYPED))
def test_contents_under_the_field_of_their_datatype_are_read(tensor: Tensor) -> None:
    request = decode_request(asked(tensor, raw=False))
    assert same(request.inputs[0].array, tensor.array)
    assert not request.binary_outputs


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_an_answer_without_a_field_for_its_datatype_is_raw(datatype: str) -> None:
    several = (Tensor("x", datatype, np.zeros(1, DTYPES[datatype])), Tensor("y", "FP32", np.zeros(1, np.float32)))
    answer = encode_response(InferResponse(model_name="m", model_version="1", outputs=several), InferRequest(inputs=()))
    assert [len(one) for one in answer.raw_output_contents] == [2, 4]
    assert not any(one.HasField("contents") for one in answer.outputs)


def test_an_answer_carries_model_version_id_and_parameters() -> None:
    response = InferResponse(
        model_name="m", model_version="4", outputs=(), id="42", parameters={"a": True, "b": 7, "c": 0.5, "d": "text"}
    )
    answer = encode_response(response, InferRequest(inputs=()))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "4", "42")
    assert answer.parameters["a"].bool_param
    assert answer.parameters["b"].int64_param == 7
    assert answer.parameters["c"].double_param == 0.5
    assert answer.parameters["d"].string_param == "text"


def test_all_that_a_request_may_say_is_read() -> None:
    message = pb.ModelInferRequest(id="42", outputs=[{"name": "a"}])
    message.parameters["timeout"].int64_param = 1500
    message.parameters["mine"].string_param = "yes"
    read = decode_request(message)
    assert (read.id, read.timeout_s, read.parameters["mine"]) == ("42", 0.0015, "yes")
    assert [one.name for one in read.outputs] == ["a"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (pb.ModelInferRequest(inputs=[X], raw_input_contents=[b"ab", b"cd"]), "v2.raw_count"),
        (pb.ModelInferRequest(inputs=[X], raw_input_contents=[b"abc"]), "tensor.size"),
        (
            pb.ModelInferRequest(inputs=[{**X, "contents": {"int_contents": [1, 2]}}], raw_input_contents=[b"ab"]),
            "v2.data_twice",
        ),
        (pb.ModelInferRequest(inputs=[X]), "tensor.size"),
        (pb.ModelInferRequest(inputs=[{**X, "contents": {"int_contents": [1]}}]), "tensor.size"),
        (pb.ModelInferRequest(inputs=[{**X, "contents": {"int_contents": [1, 128]}}]), "tensor.range"),
        (
            pb.ModelInferRequest(inputs=[{**X, "contents": {"int_contents": [1, 2], "fp32_contents": [1]}}]),
            "v2.contents",
        ),
        (
            pb.ModelInferRequest(inputs=[{**X, "datatype": "UINT8", "contents": {"int_contents": [1, 2]}}]),
            "v2.contents",
        ),
        (pb.ModelInferRequest(inputs=[{**X, "datatype": "FP16"}]), "v2.raw_only"),
        (pb.ModelInferRequest(inputs=[{**X, "datatype": "FP8"}]), "tensor.datatype"),
        (pb.ModelInferRequest(inputs=[{**X, "shape": [-2]}]), "tensor.shape"),
        (pb.ModelInferRequest(inputs=[{**X, "shape": [1 << 62, 0]}]), "tensor.shape"),
        (pb.ModelInferRequest(parameters={"p": pb.InferParameter()}), "v2.parameter"),
        (pb.ModelInferRequest(parameters={"sequence_id": pb.InferParameter(int64_param=1)}), "v2.extension"),
        (
            pb.ModelInferRequest(
                inputs=[{**X, "parameters": {"shared_memory_region": pb.InferParameter(string_param="r")}}]
            ),
            "v2.extension",
        ),
        (
            pb.ModelInferRequest(
                outputs=[
                    pb.ModelInferRequest.InferRequestedOutputTensor(
                        name="y", parameters={"classification": pb.InferParameter(int64_param=2)}
                    )
                ]
            ),
            "v2.extension",
        ),
    ],
)
def test_a_request_that_is_not_as_the_protocol_has_it_is_refused(message: pb.ModelInferRequest, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode_request(message)
    assert caught.value.code == code


def test_contents_that_would_hold_everybody_up_are_refused_and_as_many_raw_ones_are_not() -> None:
    tensor = Tensor("x", "FP32", np.zeros(1 << 20, np.float32))
    with pytest.raises(LimitExceeded) as caught:
        decode_request(asked(tensor, raw=False))
    assert caught.value.code == "v2.contents_bytes"
    assert decode_request(asked(tensor, raw=True)).inputs[0].array.size == 1 << 20


def test_more_texts_than_are_read_in_no_time_are_refused() -> None:
    tensor = Tensor("x", "BYTES", np.full((1 << 18) + 1, b"", object))
    with pytest.raises(LimitExceeded) as caught:
        decode_request(asked(tensor, raw=True))
    assert caught.value.code == "v2.texts"
