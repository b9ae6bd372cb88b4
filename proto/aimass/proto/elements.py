"""Elements of tensors as float64 and back, bfloat16 and integers included: what sums and norms compute with.

numpy has no bfloat16, so its bits travel as uint16 (see `tensors`); a float64 that becomes one is rounded to float32
and then to the nearest even, as torch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from aimass.proto.own_layers import is_own
from aimass.proto.tensors import Array, Layout, numpy_dtype

__all__ = ["FLOATS", "INTEGERS", "as_float64", "dtype_name", "from_float64", "moved", "update_shapes"]

FLOATS: Final = ("F64", "F32", "F16", "BF16")
INTEGERS: Final = ("I64", "I32", "I16", "I8", "U8")
_NAMES: Final = {numpy_dtype(name): name for name in (*FLOATS, *INTEGERS, "BOOL")}


def dtype_name(array: Array) -> str:
    """The safetensors name of an array's element type, uint16 being bfloat16; numpy's name where there is none."""
    return _NAMES.get(array.dtype, array.dtype.name)


def as_float64(array: Array, into: Array | None = None) -> Array:
    """float64 of the same shape and, but for integers beyond 2^53, of the same values; in `into` if that is given."""
    values = (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array
    if into is None:
        return values.astype(np.float64)
    np.copyto(into, values)
    return into


def moved(stored: Array, change: Array) -> Array:
    """Stored elements and a float64 change of them, as `from_float64` takes it.

    Floats are added in float64, into the memory of `change`. Integers move by the nearest whole number and are int64,
    kept in its range, so that what does not move stays as it is to the last bit, beyond 2^53 too.
    """
    if stored.dtype.kind not in "iu" or stored.dtype == np.uint16:
        change += as_float64(stored)
        return change
    held, by = stored.astype(np.int64), from_float64(change, "I64")
    whole = held + by
    over = ((held ^ whole) & (by ^ whole)) < 0  # both have one sign, and their sum has the other
    return np.where(over, np.where(by < 0, np.iinfo(np.int64).min, np.iinfo(np.int64).max), whole)


def from_float64(values: Array, dtype: str) -> Array:
    """`values` as elements of `dtype`: floats to the nearest, integers to the nearest even and kept in their range.

    A float beyond the range of its type becomes infinity, without a word. Integers may come as int64.
    """
    if dtype == "BF16":
        return _bfloat16_bits(values)
    target = numpy_dtype(dtype)
    if dtype in INTEGERS and values.dtype == np.int64:
        return np.clip(values, np.iinfo(target).min, np.iinfo(target).max).astype(target)
    if dtype in INTEGERS:
        bounds = np.iinfo(target)
        # The largest float64 that is not above the bound: casting what lies beyond it is undefined.
        highest = np.nextafter(float(bounds.max), 0) if bounds.bits == 64 else float(bounds.max)
        return np.clip(np.rint(values), float(bounds.min), highest).astype(target)
    with np.errstate(over="ignore"):
        return values.astype(target)


def _bfloat16_bits(values: Array) -> Array:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def update_shapes(model: Layout, keep_local: Sequence[str] = ()) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Element type and shape by name of an update of `model`: new minus old of all that training may change.

    Floating tensors keep their type and integers (counters of batches) are differences in I64. What the federation
    learns in a step of its own, `preprocess.*`, and truth values are not trained; what matches `keep_local` is trained
    and stays at the participant (see `own_layers`).
    """
    return {
        spec.name: (spec.dtype if spec.dtype in FLOATS else "I64", spec.shape)
        for spec in model.tensors
        if spec.dtype in (*FLOATS, *INTEGERS) and not spec.name.startswith("preprocess.")
        if not is_own(spec.name, keep_local)
    }
