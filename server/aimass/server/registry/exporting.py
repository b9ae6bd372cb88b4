"""Versions of a registry in the forms of other programs: made here by the very task, and checked against it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from aimass.proto.errors import BadInput
from aimass.proto.model_forms import TreeForm, tree_in_form
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.proto.storage import map_file
from aimass.proto.task import Task, load
from aimass.proto.tensors import Blob
from aimass.proto.very_task import source_of
from aimass.server.registry.graph import Parity
from aimass.server.registry.onnx_export import OPSET, onnx_file
from aimass.server.registry.torch_folder import torch_files

__all__ = ["FORMS", "Export", "exported"]

FORMS: Final = ("onnx", "torch", "safetensors", "xgboost", "text", "json")
"""The first two need the task, installed here; the last three are of trees."""
_FILE: Final = "model"


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """The `files` of a folder, or one file; how near it is to the task, where that was tried; what else to know."""

    files: Mapping[str, bytes]
    parity: Parity | None = None
    notes: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def single(self) -> bytes | None:
        """The one file of what is no folder."""
        return self.files.get(_FILE)


def exported(form: str, reader: RegistryReader, found: Resolved) -> Export:
    """A verified version in a form of `FORMS`. Raises `Refused` where the task cannot have it, `NotFound` or
    `IntegrityError` where the task is not installed here, or other code under its name."""
    with tempfile.TemporaryDirectory() as folder:
        parameters = Blob(map_file(reader.parameters(found.version, Path(folder))))
        if form == "onnx":
            data, parity = onnx_file(_task(found), parameters, _about(found))
            return Export({_FILE: data}, parity, {"opset": OPSET})
        if form == "torch":
            files, parity = torch_files(_task(found), parameters, _about(found))
            return Export({**files, "card.md": found.version.card.encode()}, parity)
        if form == "safetensors":
            return Export({_FILE: bytes(parameters.data)})
        if found.version.schema is None:
            raise BadInput("the version declares no schema", code="registry.no_schema", value=str(found))
        return Export({_FILE: tree_in_form(cast("TreeForm", form), parameters, found.version.schema)})


def _task(found: Resolved) -> Task:
    return load(source_of(found.version.task))


def _about(found: Resolved) -> dict[str, str]:
    """What whoever finds the file should know of it."""
    version = found.version
    return {
        "aimass.model": str(found),
        "aimass.version": found.digest,
        "aimass.parameters": version.parameters.digest,
        "aimass.task": f"{version.task.name} {version.task.digest}",
        "aimass.licence": version.licence or "none was stated",
    }
