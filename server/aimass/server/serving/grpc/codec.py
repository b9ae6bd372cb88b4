"""Requests for inference and their answers as messages of gRPC: pure, beside the JSON codec.

Open Inference Protocol, version 2, gRPC, "ModelInfer". A tensor comes as raw bytes or under the field of its datatype,
and all of a message in the same way. The answer is as the request was, but raw where it holds FP16 or BF16, which have
no field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.servable import Array
from aimass.proto.v1 import inference_pb2 as pb
from aimass.proto.values import Scalar
from aimass.server.serving.v2.elements import bound_texts, dtype_of, pack, size_of, unpack
from aimass.server.serving.v2.parameters import refuse_unsupported, timeout_s
from aimass.server.serving.v2.values import InferRequest, InferResponse, Parameters, RequestedOutput, Tensor

__all__ = ["decode_request", "encode_response", "parameters_of"]

_FIELDS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the elements of each datatype stand; FP16 and BF16 are raw always."""
_MOST_TYPED_BYTES: Final = 4 << 20
"""Elements under fields are read one by one, and while they are nobody else is answered; raw ones cost nothing."""


def decode_request(message: pb.ModelInferRequest) -> InferRequest:
    """The request that a message holds.

    Raises `BadInput` for whatever is not as the protocol has it, `LimitExceeded` for what takes too long to read.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadInput(
            "there are not as many raw contents as inputs",
            code="v2.raw_count",
            value=len(raw),
            limit=len(message.inputs),
        )
    if not raw and (size := message.ByteSize()) > _MOST_TYPED_BYTES:
        raise LimitExceeded(
            "the contents of a request are too long",
            code="v2.contents_bytes",
            value=size,
            limit=_MOST_TYPED_BYTES,
            cure="Send fewer rows at once, or raw_input_contents.",
        )
    bound_texts([(one.name, one.shape) for one in message.inputs if one.datatype == "BYTES"])
    tensors = [
        _raw(one, raw[index]) if raw else _typed(one)  # a copy of each raw part, which protobuf makes in any case
        for index, one in enumerate(message.inputs)
    ]
    parameters = parameters_of(message.parameters)
    return InferRequest(
        inputs=tuple(tensors),
        outputs=tuple([_wanted(one) for one in message.outputs]),
        binary_outputs=bool(raw),
        id=message.id,
        parameters=parameters,
        timeout_s=timeout_s(parameters),
    )


def encode_response(response: InferResponse, request: InferRequest) -> pb.ModelInferResponse:
    """The message that answers `request`."""
    raw = request.binary_outputs or any(one.datatype not in _FIELDS for one in response.outputs)
    message = pb.ModelInferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.id
    )
    for name, value in response.parameters.items():
        _put(message.parameters[name], value)
    for tensor in response.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        if raw:
            message.raw_output_contents.append(pack(tensor.datatype, tensor.array))
        else:
            getattr(output.contents, _FIELDS[tensor.datatype]).extend(tensor.array.ravel().tolist())
    return message


def parameters_of(messages: Mapping[str, pb.InferParameter]) -> Parameters:
    """Parameters as values; raises `BadInput` for one without a value, or that this server does not have."""
    parameters: dict[str, Scalar] = {}
    for name, one in messages.items():
        if (choice := one.WhichOneof("parameter_choice")) is None:
            raise BadInput("a parameter has no value", code="v2.parameter", value=name)
        parameters[name] = getattr(one, choice)
    refuse_unsupported(parameters)
    return parameters


def _put(message: pb.InferParameter, value: Scalar) -> None:
    match value:
        case bool():
            message.bool_param = value
        case int():
            message.int64_param = value
        case float():
            message.double_param = value
        case str():
            message.string_param = value


def _wanted(one: pb.ModelInferRequest.InferRequestedOutputTensor) -> RequestedOutput:
    parameters_of(one.parameters)
    return RequestedOutput(one.name)


def _raw(one: pb.ModelInferRequest.InferInputTensor, data: bytes) -> Tensor:
    if one.HasField("contents"):
        raise BadInput(f"tensor {one.name} has both contents and raw contents", code="v2.data_twice")
    parameters_of(one.parameters)
    return Tensor(one.name, one.datatype, unpack(one.name, one.datatype, one.shape, data))


def _typed(one: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    dtype, size = dtype_of(one.datatype), size_of(one.name, one.shape)
    parameters_of(one.parameters)
    if (field := _FIELDS.get(one.datatype)) is None:
        raise BadInput(
            f"tensor {one.name} has a datatype without contents",
            code="v2.raw_only",
            value=one.datatype,
            cure="Send it under raw_input_contents.",
        )
    if others := [found.name for found, _ in one.contents.ListFields() if found.name != field]:
        raise BadInput(
            f"tensor {one.name} has its contents under a field of another datatype",
            code="v2.contents",
            value=", ".join(others),
            limit=field,
        )
    elements = getattr(one.contents, field)
    if len(elements) != size:
        raise BadInput(
            f"tensor {one.name} has not as many elements as its shape says",
            code="tensor.size",
            value=len(elements),
            limit=size,
        )
    return Tensor(one.name, one.datatype, _held(one, dtype, elements))


def _held(one: pb.ModelInferRequest.InferInputTensor, dtype: np.dtype[Any], elements: Iterable[Any]) -> Array:
    listed = list(elements)
    if one.datatype == "BYTES":
        array = np.empty(len(listed), object)
        array[:] = listed
    else:
        try:
            array = np.array(listed, dtype)
        except OverflowError as error:
            what = f"tensor {one.name} holds a number beyond its datatype"
            raise BadInput(what, code="tensor.range", limit=one.datatype) from error
    return array.reshape(tuple(one.shape))
