"""Requests for inference and their answers as HTTP bodies: JSON, and after it the tensors that go as bytes.

Open Inference Protocol, version 2, "Inference"; Triton, "Binary Tensor Data Extension" and "Parameters Extension". The
header `Inference-Header-Content-Length` says where the JSON ends, in both directions; of 0 it says that the body is
the bytes of the model's only input.

Keys that the protocol does not have are refused: a misspelt `outputs` would be ignored without a word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from aimass.proto.errors import BadInput
from aimass.proto.servable import Array, TensorSpec
from aimass.proto.values import Scalar
from aimass.server.serving.v2.elements import bound_texts, dtype_of, pack, unpack
from aimass.server.serving.v2.json_data import BASE64, CONTENT_TYPE, array_of, data_of, spelt
from aimass.server.serving.v2.parameters import flag, refuse_unsupported, timeout_s
from aimass.server.serving.v2.values import (
    NO_PARAMETERS,
    InferRequest,
    InferResponse,
    Parameters,
    RequestedOutput,
    Tensor,
)

__all__ = ["HEADER_LENGTH", "JSON_TYPE", "OCTETS_TYPE", "Body", "decode_raw", "decode_request", "encode_response"]

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
JSON_TYPE: Final = "application/json"
OCTETS_TYPE: Final = "application/octet-stream"
_BINARY_SIZE: Final = "binary_data_size"
_BINARY: Final = "binary_data"
_BINARY_ALL: Final = "binary_data_output"
_ABSENT: Final = msgspec.Raw(b"")
_NO_DATA: Final = (b"", b"null")
_MOST_AXES: Final = 64  # of NumPy's arrays
_MOST_TENSORS: Final = 4_096
_Bag = dict[str, Scalar]


# Some clients write null for what they leave out.


class _Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    shape: Annotated[list[int], msgspec.Meta(max_length=_MOST_AXES)]
    datatype: str
    parameters: _Bag | None = None
    data: msgspec.Raw = _ABSENT


class _Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    parameters: _Bag | None = None


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inputs: Annotated[list[_Input], msgspec.Meta(max_length=_MOST_TENSORS)]
    id: str | None = None
    parameters: _Bag | None = None
    outputs: Annotated[list[_Wanted], msgspec.Meta(max_length=_MOST_TENSORS)] | None = None
    model_name: str | None = None  # in the extension's own example; the address says which model is meant
    model_version: str | None = None


class _Output(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: Sequence[int]
    parameters: Parameters = {}
    data: list[Any] | None = None


class _Response(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_Output]
    id: str = ""
    parameters: Parameters = {}


class Body(msgspec.Struct, frozen=True):
    """The body of an answer. `header_bytes` is how much of it is JSON, where tensors follow; None where all is."""

    content: bytes
    header_bytes: int | None = None

    @property
    def content_type(self) -> str:
        """What the body is, for its header."""
        return JSON_TYPE if self.header_bytes is None else OCTETS_TYPE


_DECODER: Final = msgspec.json.Decoder(_Request)
_ENCODER: Final = msgspec.json.Encoder()


def decode_request(body: bytes | memoryview, header_bytes: int | None = None) -> InferRequest:
    """The request that `body` holds, of which the first `header_bytes` are JSON, or all.

    Arrays that came as bytes are views of `body`, read-only. Raises `BadInput` for whatever is not as the protocol
    has it, `LimitExceeded` for too many elements of BYTES.
    """
    if header_bytes is None:
        head, tail = body, memoryview(b"")
    else:
        if not 0 <= header_bytes <= len(body):
            raise BadInput(
                f"{HEADER_LENGTH} is larger than the body", code="v2.header_length", value=header_bytes, limit=len(body)
            )
        view = memoryview(body)
        head, tail = view[:header_bytes], view[header_bytes:]
    try:
        request = _DECODER.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the request cannot be read: {error}", code="v2.json") from error
    parameters = request.parameters or NO_PARAMETERS
    refuse_unsupported(parameters)
    bound_texts([(one.name, one.shape) for one in request.inputs if one.datatype == "BYTES"])
    return InferRequest(
        inputs=_inputs(request.inputs, tail),
        outputs=tuple([_wanted(one) for one in request.outputs or ()]),
        binary_outputs=flag(parameters, _BINARY_ALL) or False,
        id=request.id or "",
        parameters=parameters,
        timeout_s=timeout_s(parameters),
    )


def decode_raw(body: bytes | memoryview, inputs: Sequence[TensorSpec]) -> InferRequest:
    """The request that is nothing but the bytes of a model's only input, and is answered in bytes.

    One axis may be of any length: it is as long as the bytes say. A body of BYTES is one element, whole.
    """
    if len(inputs) != 1:
        raise BadInput(
            "a body without JSON is for models of one input", code="v2.raw_inputs", value=len(inputs), limit=1
        )
    (spec,) = inputs
    if (free := list(spec.shape).count(-1)) > 1:
        raise BadInput(
            "a body without JSON is for inputs with one axis of any length", code="v2.raw_shape", value=free, limit=1
        )
    if spec.datatype == "BYTES":
        data: bytes | memoryview = pack("BYTES", np.array([bytes(body)], object))
        shape = [max(size, 1) for size in spec.shape]
    else:
        data, item = body, dtype_of(spec.datatype).itemsize
        fixed = math.prod(size for size in spec.shape if size >= 0) * item
        shape = [len(body) // max(fixed, 1) if size < 0 else size for size in spec.shape]
    array = unpack(spec.name, spec.datatype, shape, data)
    return InferRequest(inputs=(Tensor(spec.name, spec.datatype, array),), binary_outputs=True)


def _inputs(inputs: list[_Input], tail: memoryview) -> tuple[Tensor, ...]:
    tensors, place = [], 0
    for one in inputs:
        size = one.parameters.get(_BINARY_SIZE) if one.parameters else None
        if one.parameters:
            refuse_unsupported(one.parameters)
        if size is None:
            tensors.append(Tensor(one.name, one.datatype, _listed(one)))
            continue
        part = _cut(one, size, tail[place:])
        place += part.nbytes
        tensors.append(Tensor(one.name, one.datatype, unpack(one.name, one.datatype, one.shape, part)))
    if place != len(tail):
        raise BadInput(
            "the body is longer than its JSON and its tensors", code="v2.body_length", value=len(tail), limit=place
        )
    return tuple(tensors)


def _listed(one: _Input) -> Array:
    data = bytes(one.data)
    if data in _NO_DATA:
        cure = f"Give `data`, or the bytes after the JSON and `{_BINARY_SIZE}`."
        raise BadInput(f"tensor {one.name} has no data", code="v2.no_data", cure=cure)
    encoded = one.parameters.get(CONTENT_TYPE) == BASE64 if one.parameters else False
    return array_of(one.name, one.datatype, one.shape, data, encoded=encoded)


def _cut(one: _Input, size: Scalar, rest: memoryview) -> memoryview:
    if bytes(one.data) not in _NO_DATA:
        raise BadInput(f"tensor {one.name} has both data and bytes", code="v2.data_twice")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
        raise BadInput(
            f"{_BINARY_SIZE} of tensor {one.name} is not within the body",
            code="v2.binary_size",
            value=size,
            limit=len(rest),
        )
    return rest[:size]


def _wanted(one: _Wanted) -> RequestedOutput:
    if not one.parameters:
        return RequestedOutput(one.name)
    refuse_unsupported(one.parameters)
    return RequestedOutput(one.name, flag(one.parameters, _BINARY))


def encode_response(response: InferResponse, request: InferRequest) -> Body:
    """The body that answers `request`: its outputs as JSON, or as bytes after it where the request wants them so."""
    wanted = {one.name: one.binary for one in request.outputs if one.binary is not None} if request.outputs else {}
    outputs, tail = [], []
    for tensor in response.outputs:
        output = _Output(tensor.name, tensor.datatype, tensor.array.shape)
        if wanted.get(tensor.name, request.binary_outputs):
            tail.append(pack(tensor.datatype, tensor.array))
            output.parameters = {_BINARY_SIZE: len(tail[-1])}
        else:
            output.data, encoded = data_of(tensor.datatype, tensor.array)
            if encoded:
                output.parameters = {CONTENT_TYPE: BASE64}
        outputs.append(output)
    whole = _Response(response.model_name, response.model_version, outputs, response.id, response.parameters)
    head = _ENCODER.encode(whole)
    if b"null" in head:  # as msgspec writes what is no number; or a text says so, which stays as it is
        for output in outputs:
            output.data = None if output.data is None else spelt(output.data)
        head = _ENCODER.encode(whole)
    return Body(b"".join((head, *tail)), len(head)) if tail else Body(head)
