"""The one parameter format: canonical, strict, zero-copy, and what the reference library reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aimass.proto.errors import AimassError, BadInput, LimitExceeded
from aimass.proto.tensors import Array, Blob, encode_numpy, encode_torch

DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]
NAMES = st.text(st.sampled_from("abcxyz._/"), min_size=1, max_size=8)
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
MODELS = st.dictionaries(NAMES, ARRAYS, max_size=5)


def raw(header: object, data: bytes = b"", pad: bool = True) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8 if pad else 0)
    return len(text).to_bytes(8, "little") + text + data


@given(MODELS)
def test_what_is_encoded_is_read_back_bit_for_bit(model: dict[str, Array]) -> None:
    blob = Blob(encode_numpy(model))
    assert set(blob.layout.by_name) == set(model)
    for name, array in model.items():
        assert blob.numpy(name).dtype == array.dtype
        assert blob.numpy(name).shape == array.shape
        assert blob.numpy(name).tobytes() == array.tobytes()


@given(MODELS)
def test_the_reference_library_reads_our_blobs(model: dict[str, Array]) -> None:
    read = safetensors.numpy.load(encode_numpy(model))
    assert {name: array.tobytes() for name, array in read.items()} == {n: a.tobytes() for n, a in model.items()}


@given(MODELS)
def test_the_order_in_which_tensors_are_given_does_not_change_the_digest(model: dict[str, Array]) -> None:
    assert Blob(encode_numpy(model)).digest == Blob(encode_numpy(dict(reversed(model.items())))).digest


@given(MODELS, st.data())
def test_a_changed_header_byte_is_refused_or_still_canonical(model: dict[str, Array], data: st.DataObject) -> None:
    blob = bytearray(encode_numpy(model))
    size = 8 + int.from_bytes(blob[:8], "little")
    blob[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = Blob(bytes(blob))
    except AimassError:
        return
    assert read.layout.header == bytes(blob[:size])


@given(st.binary(max_size=200))
def test_random_bytes_never_crash_the_decoder(data: bytes) -> None:
    try:
        Blob(data)
    except AimassError:
        return


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


@pytest.mark.parametrize(
    ("blob", "code"),
    [
        (b"", "tensors.short"),
        (raw({"a": entry()}, b"\0" * 7), "tensors.size"),
        (raw({"a": entry()}, b"\0" * 9), "tensors.size"),
        (raw({"a": entry(dtype="F8")}, b"\0" * 8), "tensors.dtype"),
        (raw({"a": entry(shape=[-2])}, b"\0" * 8), "tensors.shape"),
        (raw({"a": entry(shape=[True, 2])}, b"\0" * 8), "tensors.shape"),
        (raw({"a": entry(shape=[1 << 40, 1 << 40])}, b"\0" * 8), "tensors.shape"),
        (raw({"a": entry(data_offsets=[4, 12])}, b"\0" * 12), "tensors.not_canonical"),
        (raw({"a": entry(), "b": entry()}, b"\0" * 8), "tensors.not_canonical"),
        (raw({"b": entry(), "a": entry(data_offsets=[8, 16])}, b"\0" * 16), "tensors.not_canonical"),
        (raw({"__metadata__": {}, "a": entry()}, b"\0" * 8), "tensors.entry"),
        (raw(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8), "tensors.duplicate"),
        (raw(b'{"a": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8), "tensors.not_canonical"),
        (raw(b"[]"), "tensors.json"),
        (raw(b"\xff\xfe"), "tensors.json"),
    ],
)  # fmt: skip
def test_a_blob_that_is_not_canonical_is_refused_by_name(blob: bytes, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        Blob(blob)
    assert caught.value.code == code


def test_a_claim_of_ten_gigabytes_in_a_small_header_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded) as caught:
        Blob((10 << 30).to_bytes(8, "little") + b"{}      ")
    assert caught.value.code == "tensors.header_size"


def test_bfloat16_zero_dimensional_and_empty_tensors_cross_torch_bit_for_bit() -> None:
    state = {
        "half": torch.tensor([1.5, -0.0, float("inf")], dtype=torch.bfloat16),
        "scalar": torch.tensor(3.25, dtype=torch.float64),
        "empty": torch.zeros((0, 4), dtype=torch.int32),
        "odd": torch.tensor([True, False, True]),
    }
    blob = Blob(encode_torch(state))
    for name, tensor in state.items():
        read = blob.torch(name)
        assert read.dtype == tensor.dtype
        assert read.shape == tensor.shape
        assert torch.equal(
            read.view(torch.uint8) if name == "half" else read, tensor.view(torch.uint8) if name == "half" else tensor
        )


def test_arrays_and_tensors_are_views_of_the_blob_and_cannot_be_written() -> None:
    blob = Blob(encode_numpy({"a": np.arange(1000, dtype=np.float32)}))
    assert not blob.numpy("a").flags.owndata
    assert not blob.numpy("a").flags.writeable
    assert blob.torch("a").data_ptr() == blob.numpy("a").ctypes.data


def test_the_golden_models_keep_their_digests() -> None:
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "tensors.json").read_text())
    for vector in vectors:
        model = {n: np.array(v["values"], dtype=v["dtype"]).reshape(v["shape"]) for n, v in vector["model"].items()}
        blob = Blob(encode_numpy(model))
        assert blob.data.hex() == vector["hex"]
        assert blob.digest == vector["sha256"]
