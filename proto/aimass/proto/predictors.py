"""A task's model, loaded once and asked often: as training evaluates it, or traced for who counts microseconds."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from aimass.proto.closeness import apart
from aimass.proto.manifest import Number, Schema
from aimass.proto.rows import Batch, blank_labels

if TYPE_CHECKING:
    import torch

__all__ = ["Predictor", "examples", "traced"]

log = logging.getLogger("aimass.serving")
Floats = npt.NDArray[np.float64]
TOLERANCE: Final = 1e-6
_ROWS: Final = (3, 1, 2, 17)
"""Numbers of rows that a trace is tried with, the first for the tracing itself."""


class Predictor(Protocol):
    """A model in memory."""

    def __call__(self, batch: Batch, size: int = 1024, /) -> Floats:
        """Probabilities [n, labels] of rows, or a number's predictions [n, 1], computed `size` rows at a time.

        Of masks they are those of each pixel, [n, labels, h, w].
        """
        ...


class Asked(Protocol):
    """What of a task is needed to ask its network."""

    @property
    def schema(self) -> Schema:
        """Columns of its rows."""
        ...

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The network's arguments."""
        ...

    def probabilities(self, model: torch.nn.Module, batch: Batch, size: int = 1024) -> Floats:
        """What the network says of a batch, `size` rows at a time."""
        ...


def traced(task: Asked, model: torch.nn.Module, device: str) -> Predictor:
    """What `task.probabilities` says of a model in evaluation, half as long underway for few rows of a small network.

    The model is run once and its operations are kept (`torch.jit.trace`, `torch.jit.freeze`): 13 us a row instead of 26
    for 13-64-64-1, where onnxruntime takes 15. What a trace cannot tell, a branch on values say, shows when both are
    asked the same: unless they are `apart` by at most `TOLERANCE` for several numbers of rows, the model is asked.
    """
    import torch  # noqa: PLC0415

    eager = functools.partial(task.probabilities, model.eval())
    batches = [examples(task.schema, rows) for rows in _ROWS]
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # it warns of what is compared below
            whole = _Whole(model, classifies=bool(task.schema.classes))
            arguments = tuple(argument.to(device) for argument in task.inputs(batches[0]))
            graph = torch.jit.freeze(torch.jit.trace(whole.eval(), arguments, check_trace=False))  # type: ignore[no-untyped-call]
        fast = _blocks(task, graph, device)
        agrees = all(apart(fast(batch), eager(batch)).max() <= TOLERANCE for batch in batches * 2)
    except (RuntimeError, TypeError, ValueError) as error:
        log.info("the model cannot be traced, and is asked as it is: %s", str(error).splitlines()[0])
        return eager
    if not agrees:
        log.info("a trace of the model computes something else, so the model is asked as it is")
    return fast if agrees else eager


def _Whole(model: torch.nn.Module, *, classifies: bool) -> torch.nn.Module:  # noqa: N802  (a class, made late)
    """The model with what `Task.probabilities` does to its outputs."""
    import torch  # noqa: PLC0415

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
            outputs = self.model(*arguments).double()
            return torch.softmax(outputs, dim=1) if classifies else outputs

    return Whole()


def _blocks(task: Asked, graph: Callable[..., torch.Tensor], device: str) -> Predictor:
    import torch  # noqa: PLC0415

    def predict(batch: Batch, size: int = 1024) -> Floats:
        arguments = task.inputs(batch)
        if device != "cpu":
            arguments = tuple(argument.to(device) for argument in arguments)
        with torch.inference_mode():
            if len(batch.labels) <= size:
                return graph(*arguments).cpu().numpy()
            blocks = [
                graph(*(argument[start : start + size] for argument in arguments)).cpu()
                for start in range(0, len(batch.labels), size)
            ]
            return torch.cat(blocks).numpy()

    return predict


def examples(schema: Schema, rows: int) -> Batch:
    """Rows that fit a schema and are nobody's: values that go through each column's range, some of them missing."""
    steps = np.arange(rows)
    numbers = [_through(column, rows) for column in schema.numbers]
    categories = [
        (steps + place) % (len(column.values) + 1 - column.required) - 1 + column.required
        for place, column in enumerate(schema.categories)
    ]
    images = [np.resize(steps * 37 % 256, (rows, *column.shape)).astype(np.uint8) for column in schema.images]
    texts = [np.array(list(_texts(rows, column.longest)), object) for column in schema.texts]
    return Batch(
        numbers=np.stack(numbers, axis=1).astype(np.float32) if numbers else np.zeros((rows, 0), np.float32),
        categories=np.stack(categories, axis=1) if categories else np.zeros((rows, 0), np.int64),
        images=images[0] if images else None,
        labels=blank_labels(schema, rows),
        texts=texts[0] if texts else None,
    )


def _through(column: Number, rows: int) -> npt.NDArray[Any]:
    values = np.linspace(column.minimum, column.maximum, rows + 2)[1:-1]
    if not column.required:
        values[::5] = np.nan
    return values


def _texts(rows: int, longest: int) -> Iterator[str]:
    for row in range(rows):
        yield ("one more word " * (row + 1)).strip()[:longest]
