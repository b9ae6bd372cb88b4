from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.servable import TensorSpec
from aimass.server.serving.v2.elements import numbers_of, pack
from aimass.server.serving.v2.json_codec import Body, decode_raw, decode_request, encode_response
from aimass.server.serving.v2.json_data import array_of
from aimass.server.serving.v2.values import InferRequest, InferResponse, RequestedOutput, Tensor
from tests.server.serving.v2.support import body, json_input, same, tensors


def refused(data: bytes, header_bytes: int | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        decode_request(data, header_bytes)
    return caught.value.code


def is_nan_of_another_kind(tensor: Tensor) -> bool:
    """bfloat16 is held as bits, of which JSON keeps that it is NaN and not which."""
    return tensor.datatype == "BF16" and bool(np.isnan(numbers_of(tensor.array)).any())


@given(tensors(), st.booleans())
def test_a_tensor_of_any_datatype_is_read_from_json_as_it_was_written(tensor: Tensor, nested: bool) -> None:
    (read,) = decode_request(body(json_input(tensor, nested=nested))).inputs
    assert (read.name, read.datatype) == (tensor.name, tensor.datatype)
    if is_nan_of_another_kind(tensor):
        assert same(numbers_of(read.array), numbers_of(tensor.array))
    else:
        assert same(read.array, tensor.array)


@given(st.lists(tensors(), max_size=3))
def test_tensors_that_follow_the_json_are_read_in_order_and_to_the_bit(several: list[Tensor]) -> None:
    inputs, tail = [], b""
    for index, tensor in enumerate(several):
        packed = pack(tensor.datatype, tensor.array)
        shape = list(tensor.array.shape)
        parameters = {"binary_data_size": len(packed)}
        inputs.append({"name": f"x{index}", "shape": shape, "datatype": tensor.datatype, "parameters": parameters})
        tail += packed
    head = body(*inputs)
    read = decode_request(head + tail, len(head)).inputs
    for one, other in zip(read, several, strict=True):
        assert pack(one.datatype, one.array) == pack(other.datatype, other.array)
        assert one.array.shape == other.array.shape


@given(st.lists(tensors(), min_size=1, max_size=3), st.booleans(), st.lists(st.none() | st.booleans(), min_size=3))
def test_an_answer_is_read_as_a_request_is_written(
    several: list[Tensor], whole: bool, wanted: list[bool | None]
) -> None:
    outputs = tuple(Tensor(f"x{index}", one.datatype, one.array) for index, one in enumerate(several))
    asked = InferRequest(
        inputs=(),
        outputs=tuple(RequestedOutput(one.name, binary) for one, binary in zip(outputs, wanted, strict=False)),
        binary_outputs=whole,
    )
    written = encode_response(InferResponse(model_name="m", model_version="1", outputs=outputs), asked)
    said = json.loads(written.content[: written.header_bytes])
    head = body(*said["outputs"])
    read = decode_request(
        head + written.content[len(written.content) if not written.header_bytes else written.header_bytes :], len(head)
    )
    for index, (one, other) in enumerate(zip(read.inputs, outputs, strict=True)):
        as_bytes = whole if wanted[index] is None else wanted[index]
        assert ("binary_data_size" in said["outputs"][index].get("parameters", {})) == as_bytes
        assert one.array.shape == other.array.shape
        if as_bytes or not is_nan_of_another_kind(other):
            assert same(one.array, other.array)


def test_all_that_a_request_may_say_is_read() -> None:
    read = decode_request(
        body(
            {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2.5]},
            id="42",
            parameters={"timeout": 1500, "mine": "yes", "binary_data_output": True},
            outputs=[{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
            model_name="m",
        )
    )
    assert read.id == "42"
    assert read.timeout_s == 0.0015
    assert read.parameters["mine"] == "yes"
    assert read.binary_outputs
    assert read.outputs == (RequestedOutput("a"), RequestedOutput("b", binary=False))


def test_what_is_no_number_is_a_string_in_both_directions() -> None:
    tensor = Tensor("x", "FP64", np.array([np.nan, np.inf, -np.inf, 1.0]))
    written = encode_response(
        InferResponse(model_name="m", model_version="1", outputs=(tensor,)), InferRequest(inputs=())
    )
    assert json.loads(written.content)["outputs"][0]["data"] == ["NaN", "Infinity", "-Infinity", 1.0]


def test_a_text_that_says_null_stays_as_it_is() -> None:
    tensor = Tensor("x", "BYTES", np.array([b"null", b"NaN"], object))
    written = encode_response(
        InferResponse(model_name="m", model_version="1", outputs=(tensor,)), InferRequest(inputs=())
    )
    assert json.loads(written.content)["outputs"][0]["data"] == ["null", "NaN"]


def test_an_answer_names_model_version_and_the_id_of_its_request() -> None:
    written = encode_response(
        InferResponse(model_name="m", model_version="4", outputs=(), id="42"), InferRequest(inputs=())
    )
    assert json.loads(written.content) == {"model_name": "m", "model_version": "4", "id": "42", "outputs": []}
    assert written.content_type == "application/json"
    assert Body(b"", 0).content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "code"),
    [
        ("FP32", [2], "[1.0]", "tensor.size"),
        ("FP32", [2], "[1.0, 2.0, 3.0]", "tensor.size"),
        ("FP32", [1], "[true]", "tensor.element"),
        ("FP32", [1], '["1.0"]', "tensor.element"),
        ("FP32", [1], "[null]", "tensor.element"),
        ("FP32", [1], "1.0", "tensor.element"),
        ("FP32", [1], '{"0": 1.0}', "tensor.element"),
        ("FP32", [1], "[1e39]", "tensor.range"),
        ("FP16", [1], "[70000]", "tensor.range"),
        ("BF16", [1], "[3.4e38]", "tensor.range"),
        ("FP64", [1], "[1e400]", "tensor.element"),
        ("UINT8", [1], "[256]", "tensor.range"),
        ("UINT8", [1], "[-1]", "tensor.range"),
        ("INT64", [1], "[9223372036854775808]", "tensor.range"),
        ("INT32", [1], "[1.5]", "tensor.element"),
        ("INT32", [1], '["NaN"]', "tensor.element"),
        ("BOOL", [1], "[1]", "tensor.element"),
        ("BYTES", [1], "[1]", "tensor.element"),
        ("FP8", [1], "[1.0]", "tensor.datatype"),
        ("FP32", [-1], "[1.0]", "tensor.shape"),
        ("FP32", [1] * 9, "[1.0]", "tensor.dimensions"),
        ("FP32", [0, 1 << 62], "[]", "tensor.shape"),
        ("FP32", [2, 2], "[[1.0, 2.0], [3.0]]", "tensor.shape"),
        ("FP32", [2, 2], "[[1.0, 2.0], 3.0, 4.0]", "tensor.shape"),
        ("FP32", [2, 2], "[[1.0], [2.0], [3.0], [4.0]]", "tensor.shape"),
        ("FP32", [4], "[[1.0, 2.0], [3.0, 4.0]]", "tensor.shape"),
        ("BYTES", [2], '[["a"], ["b"]]', "tensor.shape"),
        ("FP32", [1], "[" * 200 + "]" * 200, "tensor.element"),
    ],
)
def test_data_that_does_not_fit_is_refused(datatype: str, shape: list[int], data: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        array_of("x", datatype, shape, data.encode(), encoded=False)
    assert caught.value.code == code


def test_the_largest_and_the_smallest_of_each_integer_are_read() -> None:
    for datatype in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"):
        bits = int(datatype.lstrip("UINT"))
        ends = [0, 2**bits - 1] if datatype.startswith("U") else [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
        assert array_of("x", datatype, [2], json.dumps(ends).encode(), encoded=False).tolist() == ends


X = {"name": "x", "shape": [1], "datatype": "FP32"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "v2.json"),
        (b"{", "v2.json"),
        (b"[]", "v2.json"),
        (b"{}", "v2.json"),
        (b"\xff", "v2.json"),
        (b"[" * 100_000, "v2.json"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}', "v2.json"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 100_000 + b"}]}", "v2.json"),
        (body(X), "v2.no_data"),
        (body({**X, "data": [1.0]}, ouputs=[]), "v2.json"),
        (body({**X, "data": [1.0]}, id=42), "v2.json"),
        (body({**X, "shape": [1.5], "data": [1.0]}), "v2.json"),
        (body({**X, "data": ["!"], "datatype": "BYTES", "parameters": {"content_type": "base64"}}), "tensor.element"),
        (body({**X, "data": [1.0]}, parameters={"timeout": -1}), "v2.parameter"),
        (body({**X, "data": [1.0]}, parameters={"timeout": "soon"}), "v2.parameter"),
        (body({**X, "data": [1.0]}, parameters={"sequence_id": 7}), "v2.extension"),
        (body({**X, "data": [1.0]}, parameters={"deep": {}}), "v2.json"),
        (body({**X, "parameters": {"shared_memory_region": "r"}}), "v2.extension"),
        (body({**X, "data": [1.0]}, outputs=[{"name": "y", "parameters": {"classification": 2}}]), "v2.extension"),
        (body({**X, "data": [1.0]}, outputs=[{"name": "y", "parameters": {"binary_data": 1}}]), "v2.parameter"),
    ],
)
def test_a_request_that_is_not_as_the_protocol_has_it_is_refused(data: bytes, code: str) -> None:
    assert refused(data) == code


@pytest.mark.parametrize(
    ("size", "tail", "code"),
    [
        (4, b"abc", "v2.binary_size"),
        (3, b"abc", "tensor.size"),
        (4, b"abcde", "v2.body_length"),
        (-4, b"abcd", "v2.binary_size"),
        (True, b"abcd", "v2.binary_size"),
        ("4", b"abcd", "v2.binary_size"),
        (4.0, b"abcd", "v2.binary_size"),
        (1 << 62, b"abcd", "v2.binary_size"),
    ],
)
def test_bytes_after_the_json_that_do_not_fit_are_refused(size: Any, tail: bytes, code: str) -> None:
    head = body({**X, "parameters": {"binary_data_size": size}})
    assert refused(head + tail, len(head)) == code


def test_a_header_length_beyond_the_body_is_refused() -> None:
    assert refused(b"{}", 3) == "v2.header_length"
    assert refused(b"{}", -1) == "v2.header_length"


def test_a_tensor_with_data_and_bytes_is_refused() -> None:
    head = body({**X, "data": [1.0], "parameters": {"binary_data_size": 4}})
    assert refused(head + b"abcd", len(head)) == "v2.data_twice"


@given(st.binary(max_size=40), st.integers(0, 40))
def test_no_body_raises_anything_but_a_named_error(data: bytes, header_bytes: int) -> None:
    with pytest.raises(BadInput):
        decode_request(data, header_bytes)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
def test_no_data_raises_anything_but_a_named_error(data: Any) -> None:
    for datatype in ("FP32", "INT8", "BOOL", "BYTES", "BF16"):
        try:
            array = array_of("x", datatype, [2], msgspec.json.encode(data), encoded=True)
        except BadInput:
            continue
        assert array.shape == (2,)


WHOLE = body(
    json_input(Tensor("x", "FP32", np.array([[1.5, np.nan]], np.float32)), nested=True),
    json_input(Tensor("t", "BYTES", np.array(["Grüße".encode(), b"\xff"], object))),
    {"name": "y", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}},
    {"name": "z", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}},
    outputs=[{"name": "p", "parameters": {"binary_data": True}}],
)
TAIL = b"\x00\x01\x01\x00\x00\x00a"


@given(st.lists(st.tuples(st.integers(0, len(WHOLE + TAIL) - 1), st.integers(0, 255)), max_size=3))
def test_a_request_with_some_bytes_changed_is_read_or_refused_by_name(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE + TAIL)
    for place, byte in changes:
        data[place] = byte
    try:
        read = decode_request(bytes(data), len(WHOLE))
    except BadInput:
        return
    assert len(read.inputs) == 4


def test_what_a_client_leaves_out_it_may_write_as_null() -> None:
    rest = {"id": None, "parameters": None, "outputs": None}
    read = decode_request(body({**X, "parameters": None, "data": [1.0]}, **rest))
    assert (read.id, read.parameters, read.outputs) == ("", {}, ())
    head = body({**X, "data": None, "parameters": {"binary_data_size": 4}}, outputs=[{"name": "y", "parameters": None}])
    assert decode_request(head + bytes(4), len(head)).inputs[0].array.tolist() == [0.0]
    assert refused(body({**X, "data": None})) == "v2.no_data"


def test_text_that_is_not_utf_8_is_refused() -> None:
    assert refused(b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\xff"]}]}') == "tensor.element"
    assert refused(b'{"inputs":[],"id":"\xff"}') == "v2.json"


def test_no_message_holds_a_value() -> None:
    for datatype in ("FP32", "INT32", "BOOL"):
        with pytest.raises(BadInput) as caught:
            array_of("x", datatype, [1], b'["secret"]', encoded=False)
        assert "secret" not in str(caught.value)


def test_a_body_without_json_is_the_only_input() -> None:
    read = decode_raw(np.arange(6, dtype="<f4").tobytes(), [TensorSpec("x", "FP32", (-1, 3))])
    assert read.inputs[0].array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read.binary_outputs
    text = decode_raw(b"hello", [TensorSpec("t", "BYTES", (-1, 1))])
    assert text.inputs[0].array.tolist() == [[b"hello"]]


@pytest.mark.parametrize(
    ("specs", "code"),
    [
        ([TensorSpec("x", "FP32", (-1,)), TensorSpec("y", "FP32", (-1,))], "v2.raw_inputs"),
        ([TensorSpec("x", "FP32", (-1, -1))], "v2.raw_shape"),
        ([TensorSpec("x", "FP32", (-1, 3))], "tensor.size"),
    ],
)
def test_a_body_without_json_that_leaves_room_for_doubt_is_refused(specs: list[TensorSpec], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode_raw(bytes(16), specs)
    assert caught.value.code == code


def test_more_texts_than_are_read_in_no_time_are_refused() -> None:
    part = {"shape": [1 << 17], "datatype": "BYTES", "parameters": {"binary_data_size": 4 << 17}}
    several = [{**part, "name": f"x{index}"} for index in range(3)]
    whole, fewer = body(*several), body(*several[:2])
    with pytest.raises(LimitExceeded) as caught:
        decode_request(whole + bytes(3 * (4 << 17)), len(whole))
    assert caught.value.code == "v2.texts"
    assert len(decode_request(fewer + bytes(2 * (4 << 17)), len(fewer)).inputs) == 2


@pytest.mark.parametrize("asked", [{"inputs": [X] * 4_097}, {"inputs": [X], "outputs": [{"name": "y"}] * 4_097}])
def test_tensors_are_counted_before_they_are_read_one_by_one(asked: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="length <= 4096"):
        decode_request(json.dumps(asked).encode())
