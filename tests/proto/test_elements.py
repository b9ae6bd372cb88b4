"""Elements to float64 and back, with torch and Python as oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.elements import INTEGERS, as_float64, dtype_name, from_float64, moved, update_shapes
from aimass.proto.tensors import Array, Blob, encode_numpy, numpy_dtype


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_bfloat16_is_rounded_as_torch_rounds_it(values: list[float]) -> None:
    bits = from_float64(np.asarray(values), "BF16")
    oracle = torch.tensor(values, dtype=torch.float32).to(torch.bfloat16)
    read = as_float64(bits)
    np.testing.assert_array_equal(read, oracle.to(torch.float64).numpy())
    numbers = ~np.isnan(values)
    assert (bits[numbers] == oracle.view(torch.uint16).numpy()[numbers]).all()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_go_to_the_nearest_even_and_stay_in_their_range(dtype: str) -> None:
    bounds = np.iinfo(numpy_dtype(dtype))
    made = from_float64(np.array([0.5, 1.5, 2.5, 3.2, -1e30, 1e30]), dtype)
    assert made.dtype == numpy_dtype(dtype)
    assert made[:4].tolist() == [0, 2, 2, 3]
    assert made[4] == bounds.min
    assert bounds.max * 0.999 <= made[5] <= bounds.max


def test_every_array_of_a_blob_has_its_name_again() -> None:
    arrays = {name: np.zeros(2, numpy_dtype(name)) for name in ("F64", "F32", "F16", "BF16", "BOOL", *INTEGERS)}
    blob = Blob(encode_numpy(arrays))
    assert {name: dtype_name(array) for name, array in blob.arrays().items()} == {name: name for name in arrays}


def test_an_update_has_floats_in_their_type_integers_as_differences_and_nothing_else() -> None:
    model: dict[str, Array] = {
        "w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.uint16), "steps": np.array(1, np.int32), "mask": np.zeros(2, bool),
        "preprocess.mean": np.zeros(2),
    }  # fmt: skip
    assert update_shapes(Blob(encode_numpy(model)).layout) == {
        "w": ("F32", (2, 3)), "b": ("BF16", (2,)), "steps": ("I64", ()),
    }  # fmt: skip


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.int8])
def test_integers_move_by_whole_numbers_and_what_does_not_move_stays_to_the_last_bit(kind: type) -> None:
    bounds = np.iinfo(kind)
    held: Array = np.array([bounds.max, bounds.max - 1, bounds.min, 5, 5, 5], kind)
    by = np.array([0.0, 0.4, 0.0, 0.6, -2.5, 1.5])
    made = from_float64(moved(held, by), dtype_name(held))
    assert made.dtype == kind
    assert made.tolist() == [bounds.max, bounds.max - 1, bounds.min, 6, 3, 7]
    beyond = from_float64(moved(held, np.array([1e9, 1e30, -1e30, 0, 0, 0])), dtype_name(held))
    assert beyond[:3].tolist() == [bounds.max, bounds.max, bounds.min]


def test_floats_move_in_float64_into_the_memory_of_the_change() -> None:
    held, by = np.array([1, 2], np.float32), np.array([1e-12, 0.5])
    made = moved(held, by)
    assert made is by
    assert made.tolist() == [1 + 1e-12, 2.5]
    bits = np.array([0x3F80], np.uint16)  # 1 in bfloat16
    assert moved(bits, np.array([0.25])).tolist() == [1.25]
