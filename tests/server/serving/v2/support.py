"""Tensors of every datatype, and requests as a client would write them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from aimass.proto.servable import DTYPES, Array
from aimass.server.serving.v2.json_data import data_of, spelt
from aimass.server.serving.v2.values import Tensor


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def tensors(draw: st.DrawFn, name: str = "x", datatypes: tuple[str, ...] = tuple(DTYPES)) -> Tensor:
    datatype, shape = draw(st.sampled_from(datatypes)), draw(shapes())
    size = math.prod(shape)
    if datatype == "BYTES":
        array = np.empty(size, object)
        array[:] = draw(st.lists(st.binary(max_size=8), min_size=size, max_size=size))
        return Tensor(name, datatype, array.reshape(shape))
    dtype = DTYPES[datatype]
    data = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    array = np.frombuffer(data, dtype if datatype != "BOOL" else np.uint8)
    return Tensor(name, datatype, (array % 2 == 1 if datatype == "BOOL" else array).reshape(shape))


def same(one: Array, other: Array) -> bool:
    """Equal shape, dtype and elements, where NaN equals NaN and zero has a sign."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind == "f":
        numbers = ~np.isnan(one)
        return bool(
            np.array_equal(one, other, equal_nan=True)
            and np.array_equal(np.signbit(one)[numbers], np.signbit(other)[numbers])
        )
    return bool(np.array_equal(one, other))


def json_input(tensor: Tensor, *, nested: bool = False) -> dict[str, Any]:
    data, encoded = data_of(tensor.datatype, tensor.array)
    data = spelt(data)
    if nested:
        data = np.array(data, object).reshape(tensor.array.shape).tolist()
    said = {
        "name": tensor.name,
        "shape": list(tensor.array.shape),
        "datatype": tensor.datatype,
        "data": data if isinstance(data, list) else [data],
    }
    return {**said, "parameters": {"content_type": "base64"}} if encoded else said


def body(*inputs: dict[str, Any], **rest: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **rest}).encode()
