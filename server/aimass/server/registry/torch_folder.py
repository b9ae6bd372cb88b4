"""Models as a folder that loads with torch alone: no task, no AIMass, no pickle.

`model.pt2` is the task's graph as `torch.export` writes it: its operators as JSON, its weights as bytes. A state dict
would need the task's own code beside it, and what that imports; the graph is complete, and carries no Python at all.
`predict.py` is the little that stands before it: cells to tensors, by `schema.json`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from aimass.proto.errors import Refused
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.tree_task import TreeTask
from aimass.proto.values import canonical_json
from aimass.server.registry import predict_alone
from aimass.server.registry.graph import Parity, generated, held, own_warnings, tensors_of, traced

__all__ = ["torch_files"]

_README: Final = """Loads with torch alone (made with {torch}):

    python predict.py '{{"column": value, ...}}'

{about}
"""


def torch_files(task: Task, parameters: Blob, about: Mapping[str, str]) -> tuple[dict[str, bytes], Parity]:
    """The files by name, and how near what they say is to the task over generated rows.

    Raises `Refused` for trees, for tasks that turn rows into tensors by code of their own, and as `traced`.
    """
    _check(task)
    program = traced(task, parameters).program
    program.example_inputs = None  # the one thing that would be pickled
    written = io.BytesIO()
    with own_warnings():
        torch.export.save(program, written)
    batch = generated(task)
    with own_warnings(), torch.no_grad():
        loaded = torch.export.load(io.BytesIO(written.getvalue())).module()
        said = loaded(*tensors_of(task, batch)).numpy()
    parity = held(task, task.scored(parameters, batch), said)
    told = "\n".join(f"{key.removeprefix('aimass.')}: {value}" for key, value in about.items())
    return {
        "README.txt": _README.format(torch=f"torch {torch.__version__}", about=told).encode(),
        "model.pt2": written.getvalue(),
        "predict.py": Path(predict_alone.__file__).read_bytes(),
        "schema.json": canonical_json(task.schema),
    }, parity


def _check(task: Task) -> None:
    if isinstance(task, TreeTask):
        raise Refused(
            "trees are no torch model",
            code="export.no_network",
            value=type(task).__name__,
            limit="onnx, or xgboost, text, json of a training server's model",
            cure="Export them with --format onnx.",
        )
    if type(task).inputs is not Task.inputs:
        raise Refused(
            "this task turns rows into tensors by code of its own, which torch alone has not",
            code="export.own_inputs",
            value=type(task).__name__,
            cure="Serve it, or export it with --format onnx, whose inputs are those tensors.",
        )
