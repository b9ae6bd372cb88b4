from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.server.serving.v2.elements import bits_of, numbers_of, pack, size_of, unpack
from aimass.server.serving.v2.values import Tensor
from tests.server.serving.v2.support import tensors


@given(tensors())
def test_a_tensor_is_unpacked_as_it_was_packed_to_the_bit(tensor: Tensor) -> None:
    packed = pack(tensor.datatype, tensor.array)
    read = unpack("x", tensor.datatype, tensor.array.shape, packed)
    assert (read.shape, read.dtype) == (tensor.array.shape, tensor.array.dtype)
    assert pack(tensor.datatype, read) == packed


@given(st.integers(0, 0xFFFF))
def test_every_bfloat16_is_a_float32_and_comes_back(bits: int) -> None:
    numbers = numbers_of(np.array([bits], np.uint16))
    back = bits_of(numbers)
    if np.isnan(numbers[0]):
        assert np.isnan(numbers_of(back)[0])
    else:
        assert back[0] == bits


@given(st.floats(width=32, allow_nan=False))
def test_a_float32_becomes_the_nearest_bfloat16(number: float) -> None:
    value = np.array([number], np.float32)
    got = numbers_of(bits_of(value))[0]
    lower = numbers_of((value.view(np.uint32) >> 16).astype(np.uint16))[0]
    upper = numbers_of(((value.view(np.uint32) >> 16) + 1).astype(np.uint16))[0]
    if np.isinf(lower) or np.isinf(upper) or np.isnan(upper):
        assert got in {lower, upper}
    else:
        nearest = min(abs(float(number) - float(lower)), abs(float(number) - float(upper)))
        assert abs(float(number) - float(got)) == nearest


def test_a_nan_whose_payload_is_cut_off_stays_one() -> None:
    assert np.isnan(numbers_of(bits_of(np.array([0x7F800001], np.uint32).view(np.float32))))[0]


def test_ties_go_to_the_even_bfloat16() -> None:
    halfway = np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)
    assert bits_of(halfway).tolist() == [0x3F80, 0x3F82]


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", [1], bytes(3)),
        ("FP32", [1], bytes(5)),
        ("BOOL", [2], b"\x00\x02"),
        ("BYTES", [1], b""),
        ("BYTES", [1], struct.pack("<I", 4) + b"abc"),
        ("BYTES", [1], struct.pack("<I", 4) + b"abcde"),
        ("BYTES", [2], struct.pack("<I", 6) + b"abcdef"),
        ("BYTES", [1 << 30], struct.pack("<I", 0)),
        ("BYTES", [0], b"\x00"),
        ("BYTES", [2], struct.pack("<I", 0xFFFFFFFF) + bytes(8)),
    ],
)
def test_bytes_that_are_not_what_the_shape_says_are_refused(datatype: str, shape: list[int], data: bytes) -> None:
    with pytest.raises(BadInput):
        unpack("x", datatype, shape, data)


@pytest.mark.parametrize("shape", [[-1], [1] * 9, [1 << 41], [0, 1 << 41], [1 << 39, 4]])
def test_a_shape_that_no_tensor_has_is_refused(shape: list[int]) -> None:
    with pytest.raises(BadInput):
        size_of("x", shape)


def test_a_tensor_without_elements_is_held_whatever_its_axes_say() -> None:
    assert unpack("x", "FP32", [0, 13], b"").shape == (0, 13)
    with pytest.raises(BadInput):
        unpack("x", "FP32", [1 << 40, 1 << 40, 0], b"")


def test_the_array_is_a_view_of_the_bytes() -> None:
    data = bytearray(8)
    read = unpack("x", "FP32", [2], memoryview(data))
    data[:] = struct.pack("<2f", 1, 2)
    assert read.tolist() == [1, 2]
