"""Models as ONNX: the task's graph, checked against the task itself by onnxruntime before anybody has the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import torch

from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.tree_scores import features
from aimass.proto.tree_task import TreeTask
from aimass.proto.values import canonical_json
from aimass.server.registry.graph import Graph, Parity, generated, held, own_warnings, tensors_of, traced
from aimass.server.registry.onnx_trees import tree_model

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "onnx_file"]

OPSET: Final = 20
"""Of the graph's operators: what onnxruntime reads since 1.17, of February 2024."""


def onnx_file(task: Task, parameters: Blob, about: Mapping[str, str]) -> tuple[bytes, Parity]:
    """The file, and how near it is to the task over generated rows; `about` goes into its metadata.

    Inputs are the task's tensors by name (`numbers`, `categories` or `images`; `features` of trees), with any number of
    rows; the metadata `aimass.schema` says what their columns are. Raises `Refused` where the task cannot be exported,
    or says something else.
    """
    batch = generated(task)
    if isinstance(task, TreeTask):
        model = tree_model(task.ensemble(parameters), OPSET)
        inputs = {"features": features(batch)}
    else:
        graph = traced(task, parameters)
        model = _network(graph)
        kept = {node.name for node in model.graph.input}
        tensors = zip(graph.inputs, tensors_of(task, batch), strict=True)
        inputs = {name: tensor.numpy() for name, tensor in tensors if name in kept}
    for key, value in {"aimass.schema": canonical_json(task.schema).decode(), **about}.items():
        model.metadata_props.add(key=key, value=value)
    data = model.SerializeToString()
    return data, held(task, task.scored(parameters, batch), _said_by_runtime(data, inputs))


def _network(graph: Graph) -> onnx.ModelProto:
    """The traced graph in ONNX's operators; nobody has to give it a tensor of no columns."""
    with own_warnings():
        exported = torch.onnx.export(
            graph.program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=[graph.output],
            verbose=False,
        )
    assert exported is not None  # noqa: S101  (it is where the dynamo exporter is asked)
    model = exported.model_proto
    read = {name for node in model.graph.node for name in node.input}
    for node in [node for node in model.graph.input if node.name not in read and _is_empty(node)]:
        model.graph.input.remove(node)
    return model


def _is_empty(node: onnx.ValueInfoProto) -> bool:
    return any(axis.HasField("dim_value") and axis.dim_value == 0 for axis in node.type.tensor_type.shape.dim)


def _said_by_runtime(data: bytes, inputs: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    """What onnxruntime, which shares no code with torch, says of the inputs."""
    import onnxruntime  # noqa: PLC0415  (whoever exports no ONNX needs none)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(inputs))[0])
