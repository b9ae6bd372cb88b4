"""A task's model under its parameters as one graph, from tensors to what the task says of rows: what exports are of.

The graph holds the preprocessing and the softmax too, so that whoever runs it elsewhere computes what serving does.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.fx

from aimass.proto.errors import Refused
from aimass.proto.rows import Batch
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import Task, load_parameters
from aimass.proto.tensors import Blob

__all__ = ["OUTPUTS", "TOLERANCE", "Graph", "Parity", "generated", "held", "own_warnings", "tensors_of", "traced"]

_ROWS: Final = 256
_SEED: Final = 20
_KEPT: Final = {"val", "tensor_meta"}
TOLERANCE: Final = 1e-5
"""Of probabilities; of a number's predictions, of the label's range."""
OUTPUTS: Final = ("prediction", "probabilities")
"""What a graph puts out, by whether the label has classes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """The traced `program` with the names of its `inputs`, and of its `output`: float64 [rows, labels] or [rows, 1]."""

    program: torch.export.ExportedProgram
    inputs: tuple[str, ...]
    output: str


@dataclasses.dataclass(frozen=True, slots=True)
class Parity:
    """How far an export is at most from the task itself, over so many generated rows."""

    rows: int
    worst: float
    tolerance: float


class _Said(torch.nn.Module):
    """The task's model and what `Task.probabilities` makes of its outputs."""

    def __init__(self, model: torch.nn.Module, *, classes: bool) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The task's inputs to float64 [rows, labels], or a number [rows, 1]."""
        outputs: torch.Tensor = self.model(*tensors).double()
        return torch.softmax(outputs, dim=1) if self.classes else outputs


def traced(task: Task, parameters: Blob) -> Graph:
    """Trace the task's model, any number of rows at once. Raises `Refused` as `export.not_traceable`, or as `build`."""
    model = task.build()
    load_parameters(model, parameters)
    said = _Said(model, classes=bool(task.schema.classes)).eval()
    tensors = tensors_of(task, generated(task))
    try:
        with own_warnings(), torch.no_grad():
            program = torch.export.export(said, tensors, dynamic_shapes=(_shapes(task, tensors),), strict=False)
            _forget_places(program)
    except Exception as error:
        raise Refused(
            "the task's model cannot be traced as one graph",
            code="export.not_traceable",
            value=f"{type(task).__name__}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            cure="Its `forward` may branch on nothing but shapes; torch.export says more. Serving needs no export.",
        ) from error
    return Graph(program, _names(model, len(tensors)), OUTPUTS[bool(task.schema.classes)])


def generated(task: Task, rows: int = _ROWS, seed: int = _SEED) -> Batch:
    """Rows of chance that fit the task's schema, some of their cells missing."""
    return synthetic_rows(task.schema, rows, seed)


def tensors_of(task: Task, batch: Batch) -> tuple[torch.Tensor, ...]:
    """The rows as the graph takes them."""
    return tuple(tensor.contiguous() for tensor in task.inputs(batch))


def held(task: Task, expected: npt.NDArray[np.float64], found: npt.NDArray[Any]) -> Parity:
    """How near `found` of an export is to `expected` of the task; raises `Refused` as `export.parity`."""
    tolerance = TOLERANCE * (1.0 if task.schema.classes else max(1.0, float(np.abs(expected).max(initial=0.0))))
    worst = float(np.abs(found - expected).max(initial=0.0)) if found.shape == expected.shape else float("inf")
    if not worst <= tolerance:
        raise Refused(
            "the export does not say what the task says of generated rows, and is not written",
            code="export.parity",
            value=f"{worst:.3g} apart, shapes {list(found.shape)} and {list(expected.shape)}",
            limit=f"{tolerance:g}",
            cure="A task that overrides `scored` or `probabilities` computes beside its network: serve it instead.",
        )
    return Parity(len(expected), worst, tolerance)


@contextmanager
def own_warnings() -> Iterator[None]:
    """Silence what torch's exporters say of their own insides."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


def _forget_places(program: torch.export.ExportedProgram) -> None:
    """The lines of code that each operator comes from, which name folders of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta = {key: value for key, value in node.meta.items() if key in _KEPT}


def _shapes(task: Task, tensors: tuple[torch.Tensor, ...]) -> tuple[dict[int, Any], ...]:
    """Rows are any number. Where the task makes its tensors itself, their other axes may be free too: tokens."""
    rows = torch.export.Dim("rows", min=1)
    free = torch.export.Dim.AUTO if type(task).inputs is not Task.inputs else None
    return tuple({0: rows, **(dict.fromkeys(range(1, tensor.ndim), free) if free else {})} for tensor in tensors)


def _names(model: torch.nn.Module, count: int) -> tuple[str, ...]:
    """The inputs as the model's `forward` calls them."""
    named = tuple(inspect.signature(model.forward).parameters)
    return named[:count] if len(named) >= count else tuple(f"input_{place}" for place in range(count))
