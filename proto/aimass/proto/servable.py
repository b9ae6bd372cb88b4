"""What answers requests with tensors: the seam between a task's model and whatever serves it.

A task makes its servable of a run's parameters once (`Task.servable`), and serving asks nothing else of it. Tensors
are named as in the Open Inference Protocol, version 2, "Tensor Data Types": BF16 is held as the uint16 of its bits,
since numpy has no such type, and BYTES as an object array of `bytes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput, NotFound

__all__ = ["DTYPES", "Array", "Servable", "TensorSpec", "check_inputs", "check_outputs", "rows_of"]

Array = npt.NDArray[Any]

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
    "BYTES": np.dtype("O"),
}
"""How each datatype is held."""


@dataclasses.dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and shape of a tensor; -1 stands for any length, and the first axis is that of the rows.

    `also` are other datatypes that are taken under this name. An `optional` tensor may be left out: the servable says
    of which combinations it makes an answer. `labels` name the places of the last axis; of an answer about pixels those
    of its second, and the numbers of a mask.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    also: tuple[str, ...] = ()
    optional: bool = False
    labels: tuple[str, ...] = ()

    def admits(self, array: Array) -> bool:
        """Whether an array has this shape and one of these datatypes; [n] is taken for [n, 1]."""
        shape = array.shape if array.ndim != 1 or self.shape != (-1, 1) else (len(array), 1)
        if len(shape) != len(self.shape):
            return False
        for want, have in zip(self.shape, shape, strict=True):  # asked twice a request: a generator costs more
            if want not in (have, -1):
                return False
        return array.dtype == DTYPES[self.datatype] or any(array.dtype == DTYPES[name] for name in self.also)


@runtime_checkable
class Servable(Protocol):
    """A model in memory. It computes the same for the same tensors, whoever else's rows stand beside them."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it answers with."""
        ...

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs for these inputs, which are only lent; raises `BadInput` for values that it cannot take."""
        ...


def check_inputs(specs: Mapping[str, TensorSpec], tensors: Mapping[str, Array]) -> int:
    """How many rows `tensors` hold, of which each fits the spec of its name.

    Raises `NotFound` for a name that is not known, `BadInput` for one that is missing, a wrong shape or datatype, or
    tensors of differing numbers of rows.
    """
    rows = -1
    for name, array in tensors.items():
        spec = specs.get(name)
        if spec is None:
            raise NotFound(
                "the model has no input of this name", code="serving.input_unknown", value=name, limit=_names(specs)
            )
        if not spec.admits(array):
            raise _does_not_fit(spec, array)
        if rows not in {-1, len(array)}:
            raise BadInput(
                "the tensors differ in their first axis, that of the rows",
                code="serving.rows",
                value=f"{name}: {len(array)}",
                limit=rows,
            )
        rows = len(array)
    if len(tensors) < len(specs) and (missing := _missing(specs, tensors)):
        raise BadInput("inputs of the model are missing", code="serving.input_missing", value=", ".join(missing))
    if rows < 1:
        raise BadInput("the request has no rows", code="serving.no_rows")
    return rows


def check_outputs(specs: Collection[TensorSpec], tensors: Mapping[str, Array], rows: int) -> str | None:
    """What is wrong with a model's answer for `rows` rows, if anything: names, shapes, datatypes, NaN or infinity."""
    if len(tensors) != len(specs):
        return f"{len(tensors)} outputs for {len(specs)}"
    for spec in specs:
        array = tensors.get(spec.name)
        if array is None:
            return f"no output {spec.name}"
        if not spec.admits(array) or len(array) != rows:
            return f"output {spec.name} is {array.dtype} {list(array.shape)} for {rows} rows"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"output {spec.name} is not finite"
    return None


def rows_of(tensors: Mapping[str, Array]) -> int:
    """The length of the first axis, which all have in common."""
    return len(next(iter(tensors.values())))


def _missing(specs: Mapping[str, TensorSpec], tensors: Mapping[str, Array]) -> list[str]:
    return [name for name, spec in specs.items() if not spec.optional and name not in tensors]


def _does_not_fit(spec: TensorSpec, array: Array) -> BadInput:
    kinds = "/".join((spec.datatype, *spec.also))
    return BadInput(
        f"the input {spec.name} has another shape or datatype",
        code="serving.input_form",
        value=f"{array.dtype} {list(array.shape)}",
        limit=f"{kinds} {list(spec.shape)}",
        cure="The model's metadata says what it takes; -1 stands for any length.",
    )


def _names(specs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(specs)
