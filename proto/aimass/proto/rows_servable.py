"""The servable of a task over rows: named columns in, probabilities and a label out, or a number's prediction.

Each column of the schema is a tensor of its name: numbers (NaN for missing), categories and texts (empty for missing)
as UTF-8, images as bytes. Where all columns are numbers they may come as one tensor `rows` instead. A number is taken
as it is, even out of its column's range: whether that is allowed is decided by whoever knows who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Category, Column, Image, Number, Schema, Text, answer_shape
from aimass.proto.predictors import Predictor, examples
from aimass.proto.rows import Batch
from aimass.proto.servable import Array, TensorSpec

__all__ = ["ROWS", "RowsServable"]

Held = Callable[[], Iterable[bytes | memoryview]]

ROWS: Final = "rows"
_NUMBERS: Final = ("FP32", "INT64", "INT32")
"""Datatypes in which a number may come, beside FP64."""
_LARGEST: Final = 1e30
"""Models compute in float32, which ends at 3.4e38: what they multiply a number with has to find room below that."""


class RowsServable:
    """A predictor behind the tensors of its schema."""

    def __init__(self, schema: Schema, predictor: Predictor, held: Held | None = None) -> None:
        """`held` gives the parameters that the predictor computes with as the parts of a blob."""
        self._schema, self._predictor = schema, predictor
        if held is not None:
            self.held = held
        self._at_once = len(schema.numbers) == len(schema.columns) and ROWS not in {c.name for c in schema.columns}
        self._columns = {column.name: column for column in schema.columns}
        self._codes = {column.name: _codes(column) for column in schema.categories}
        self._missing = [(place, column) for place, column in enumerate(schema.numbers) if column.missing_values]
        self._required = [(place, column) for place, column in enumerate(schema.numbers) if column.required]
        self._labels = np.array([label.encode() for label in schema.classes], dtype=object)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The columns; `rows` too where it stands for them."""
        columns = tuple(_spec(column, optional=self._at_once) for column in self._schema.columns)
        if not self._at_once:
            return columns
        names = tuple(column.name for column in self._schema.columns)
        return (TensorSpec(ROWS, "FP32", (-1, len(names)), also=("FP64",), optional=True, labels=names), *columns)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """`probabilities` and `label`, or `prediction`; of masks `probabilities` and `mask`, each pixel's label."""
        labels = self._schema.classes
        if not labels:
            return (TensorSpec("prediction", "FP64", (-1,)),)
        if self._schema.segments:
            shape = answer_shape(self._schema)
            chances = TensorSpec("probabilities", "FP64", (-1, *shape), labels=labels)
            return (chances, TensorSpec("mask", "UINT8", (-1, *shape[1:]), labels=labels))
        chances = TensorSpec("probabilities", "FP64", (-1, len(labels)), labels=labels)
        return (chances, TensorSpec("label", "BYTES", (-1,)))

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Raises `BadInput` for an unknown category, a text too long, a missing value that is required, a number that
        is infinite or beyond 1e30."""
        found = self._predictor(self.batch(tensors))
        if not len(self._labels):
            return {"prediction": found[:, 0]}
        if self._schema.segments:
            return {"probabilities": found, "mask": found.argmax(axis=1).astype(np.uint8)}
        return {"probabilities": found, "label": self._labels[found.argmax(axis=1)]}

    def examples(self, rows: int) -> dict[str, Array]:
        """Inputs that are nobody's, see `predictors.examples`."""
        schema, batch = self._schema, examples(self._schema, rows)
        numbers = {
            column.name: batch.numbers[:, place].astype(np.float64) for place, column in enumerate(schema.numbers)
        }
        texts = () if batch.texts is None else [text.encode() for text in batch.texts]
        return {
            **numbers,
            **{
                column.name: self._named(column, batch.categories[:, place])
                for place, column in enumerate(schema.categories)
            },
            **({} if batch.images is None else {schema.images[0].name: batch.images}),
            **{column.name: np.array(texts, object) for column in schema.texts},
        }

    def _named(self, column: Category, codes: npt.NDArray[np.int64]) -> Array:
        return np.array([*(value.encode() for value in column.values), b""], object)[codes]

    def batch(self, tensors: Mapping[str, Array]) -> Batch:
        """The rows as a model takes them; their labels are none."""
        if self._at_once and ROWS in tensors:
            if len(tensors) > 1:
                raise BadInput(
                    f"`{ROWS}` stands for all columns: none can come beside it",
                    code="serving.inputs",
                    value=", ".join(tensors),
                )
            return _batch(self._numbers(np.array(tensors[ROWS], np.float64)))
        if len(tensors) < len(self._columns):
            absent = [name for name in self._columns if name not in tensors]
            raise BadInput("inputs of the model are missing", code="serving.input_missing", value=", ".join(absent))
        schema = self._schema
        numbers = [tensors[column.name].astype(np.float64).reshape(-1) for column in schema.numbers]
        codes = [self._coded(column, tensors[column.name].reshape(-1)) for column in schema.categories]
        rows = len(next(iter(tensors.values())))
        return _batch(
            self._numbers(np.stack(numbers, axis=1)) if numbers else np.zeros((rows, 0), np.float32),
            np.stack(codes, axis=1) if codes else None,
            tensors[schema.images[0].name] if schema.images else None,
            _texts(schema.texts[0], tensors[schema.texts[0].name].reshape(-1)) if schema.texts else None,
        )

    def _numbers(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """float32 [n, numbers] with NaN for missing; `values` are changed."""
        for place, column in self._missing:
            values[np.isin(values[:, place], column.missing_values), place] = np.nan
        if not np.vdot(values, values) <= _LARGEST**2:  # False for NaN; most rows are whole, so one look is for all
            self._check_odd(values)
        return values.astype(np.float32)

    def _check_odd(self, values: npt.NDArray[np.float64]) -> None:
        if np.isinf(values).any():
            raise BadInput("a number is infinite", code="serving.infinite", cure="Leave a missing number as NaN.")
        if (np.abs(values) > _LARGEST).any():
            raise BadInput("a number is larger than a model computes with", code="serving.too_large", limit=_LARGEST)
        for place, column in self._required:
            if np.isnan(values[:, place]).any():
                raise _required(column.name)

    def _coded(self, column: Category, values: Array) -> npt.NDArray[np.int64]:
        codes = self._codes[column.name]
        try:
            found = np.array([codes[value] for value in values], np.int64)
        except KeyError:
            raise BadInput(
                f"a value of {column.name} is none of the schema's",
                code="serving.category",
                limit=", ".join(column.values),
                cure="Send one of these, or an empty text where it is not known.",
            ) from None
        if column.required and (found < 0).any():
            raise _required(column.name)
        return found


def _spec(column: Column, *, optional: bool) -> TensorSpec:
    match column:
        case Number():
            return TensorSpec(column.name, "FP64", (-1, 1), also=_NUMBERS, optional=optional)
        case Image():
            return TensorSpec(column.name, "UINT8", (-1, *column.shape))
        case Category():
            return TensorSpec(column.name, "BYTES", (-1, 1), labels=column.values)
        case Text():
            return TensorSpec(column.name, "BYTES", (-1, 1))


def _codes(column: Category) -> dict[bytes, int]:
    missing = dict.fromkeys((b"", *(value.encode() for value in column.missing_values)), -1)
    return {value.encode(): place for place, value in enumerate(column.values)} | missing


def _texts(column: Text, values: Array) -> Array:
    return np.array([_text(column, value) for value in values], dtype=object)


def _text(column: Text, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"a text of {column.name} is not UTF-8", code="serving.text", cure="Encode it so.") from error
    if not text.strip():
        raise _required(column.name)
    if len(text) > column.longest:
        raise BadInput(
            f"a text of {column.name} is too long", code="serving.text", value=len(text), limit=column.longest
        )
    return text


def _required(name: str) -> BadInput:
    return BadInput(f"{name} is missing in a row, and the model needs it", code="serving.required")


def _batch(
    numbers: npt.NDArray[np.float32],
    categories: npt.NDArray[np.int64] | None = None,
    images: Array | None = None,
    texts: Array | None = None,
) -> Batch:
    rows = len(numbers)
    codes = np.zeros((rows, 0), np.int64) if categories is None else categories
    return Batch(numbers, codes, images, np.zeros(rows), texts)
