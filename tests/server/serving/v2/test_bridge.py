from __future__ import annotations

import numpy as np
import pytest

from aimass.proto.errors import BadInput, InternalError
from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.requests import Answer, ModelUnknown
from aimass.server.serving.v2.bridge import to_request, to_response, version_of
from aimass.server.serving.v2.values import InferRequest, RequestedOutput, Tensor

INPUTS = (TensorSpec("x", "BF16", (-1,)), TensorSpec("y", "FP64", (-1,), also=("FP32",)))
OUTPUTS = (TensorSpec("p", "FP64", (-1,)), TensorSpec("label", "BYTES", (-1,)))
ONE = np.zeros(1, np.uint16)
ANSWER = Answer({"label": np.array([b"sick"], object), "p": np.array([0.5])}, "heart", 4, 0.0, 0.0)


def refused(asked: InferRequest) -> str:
    with pytest.raises(BadInput) as caught:
        to_request("heart", None, asked, INPUTS, OUTPUTS)
    return caught.value.code


def test_a_request_carries_name_version_id_and_deadline() -> None:
    asked = InferRequest(inputs=(Tensor("x", "BF16", ONE),), outputs=(RequestedOutput("label"),), id="42")
    request = to_request("heart", 4, asked, INPUTS, OUTPUTS, 7.5)
    assert (request.model, request.version, request.id, request.deadline) == ("heart", 4, "42", 7.5)
    assert request.outputs == ("label",)
    assert request.tensors["x"] is ONE


def test_integers_are_no_bfloat16_though_both_are_held_alike() -> None:
    assert refused(InferRequest(inputs=(Tensor("x", "UINT16", ONE),))) == "v2.datatype"


def test_another_datatype_is_taken_where_the_model_says_so() -> None:
    asked = InferRequest(inputs=(Tensor("y", "FP32", np.zeros(1, np.float32)),))
    assert to_request("heart", None, asked, INPUTS, OUTPUTS).outputs == ()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (InferRequest(inputs=(Tensor("z", "FP32", ONE),)), "serving.input_unknown"),
        (InferRequest(inputs=(Tensor("x", "BF16", ONE), Tensor("x", "BF16", ONE))), "v2.input_twice"),
        (InferRequest(inputs=(), outputs=(RequestedOutput("q"),)), "serving.output_unknown"),
        (InferRequest(inputs=(), outputs=(RequestedOutput("p"), RequestedOutput("p"))), "v2.output_twice"),
    ],
)
def test_names_that_the_model_does_not_have_or_that_stand_twice_are_refused(asked: InferRequest, code: str) -> None:
    assert refused(asked) == code


def test_all_outputs_come_in_the_order_of_the_model() -> None:
    response = to_response(ANSWER, InferRequest(inputs=(), id="42"), OUTPUTS)
    assert [(one.name, one.datatype) for one in response.outputs] == [("p", "FP64"), ("label", "BYTES")]
    assert (response.model_name, response.model_version, response.id) == ("heart", "4", "42")


def test_outputs_that_are_asked_for_come_in_that_order() -> None:
    asked = InferRequest(inputs=(), outputs=(RequestedOutput("label"), RequestedOutput("p")))
    assert [one.name for one in to_response(ANSWER, asked, OUTPUTS).outputs] == ["label", "p"]


def test_an_output_that_the_model_left_out_is_a_fault_of_the_model() -> None:
    with pytest.raises(InternalError):
        to_response(Answer({}, "heart", 4, 0.0, 0.0), InferRequest(inputs=()), OUTPUTS)


def test_a_version_is_a_number_or_absent() -> None:
    assert version_of("heart", "") is None
    assert version_of("heart", "12") == 12
    for text in ("v1", "-1", "1.0", "²", "9" * 5000):
        with pytest.raises(ModelUnknown):
            version_of("heart", text)
