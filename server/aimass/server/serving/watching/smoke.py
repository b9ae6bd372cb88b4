"""Smoke inputs: rows that a version came with, as tensors that its model takes, and whether it says of them what it has
to say. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aimass.proto.cells import text_of
from aimass.proto.closeness import apart, sampled
from aimass.proto.errors import BadInput
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.servable import DTYPES, TensorSpec

__all__ = ["smoke_tensors", "what_is_wrong"]

Array = npt.NDArray[Any]
_ANSWERS = ("probabilities", "prediction")


def smoke_tensors(smoke: SmokeInputs, specs: Sequence[TensorSpec]) -> Mapping[str, Array]:
    """The rows in the tensors of their columns; raises `BadInput` as `smoke.form` where the model takes others."""
    by_name = {spec.name: spec for spec in specs}
    if absent := [name for name in smoke.columns if name not in by_name]:
        raise BadInput(
            "the smoke inputs have columns that the model does not take",
            code="smoke.form",
            value=", ".join(absent),
            limit=", ".join(by_name),
        )
    return {name: _tensor(by_name[name], cells) for name, cells in smoke.columns.items()}


def what_is_wrong(smoke: SmokeInputs, outputs: Mapping[str, Array]) -> str:
    """Which row came to something else than it has to, in words; empty where none did."""
    found = next((outputs[name] for name in _ANSWERS if name in outputs), None)
    expected = np.array(smoke.expected, dtype=np.float64)
    if found is None:
        return f"its answer to the smoke inputs has none of {', '.join(_ANSWERS)}"
    said = np.asarray(found, dtype=np.float64)
    found = sampled(said).reshape(len(said), -1)
    if found.shape != expected.shape:
        return f"its answer to the smoke inputs has the shape {list(found.shape)}, and not {list(expected.shape)}"
    off = apart(found, expected)
    if not (off > smoke.tolerance).any():
        return ""
    row, place = np.unravel_index(int(off.argmax()), off.shape)
    came, wanted = found[row, place], expected[row, place]
    return f"smoke input {row + 1} of {len(found)} came to {came:.6g} where {wanted:.6g} was expected"


def _tensor(spec: TensorSpec, cells: Sequence[float | str | None]) -> Array:
    try:
        if spec.datatype == "BYTES":
            return np.array([b"" if cell is None else text_of(cell).encode() for cell in cells], dtype=object)
        if len(spec.shape) > 2:
            rows = [np.frombuffer(base64.b64decode(str(cell)), DTYPES[spec.datatype]) for cell in cells]
            return np.stack(rows).reshape(len(cells), *spec.shape[1:])
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=DTYPES[spec.datatype])
    except ValueError as error:
        raise BadInput("a smoke input does not fit its column", code="smoke.form", value=spec.name) from error
