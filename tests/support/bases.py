"""The base of the task `based`, and where it is installed."""

from __future__ import annotations

from pathlib import Path

import torch

from aimass.client.tasks.heart import task as heart
from aimass.proto.bases import BaseFolder
from aimass.proto.preprocess import Tabular
from aimass.proto.tensors import Blob, encode_torch
from tests.support import based
from tests.support.installed import install_task

__all__ = ["base_file", "based_task", "install_based", "layer"]


def layer(seed: int = 1) -> torch.nn.Linear:
    """What a base is stored from, the same whatever torch's generator does."""
    made = torch.nn.Linear(Tabular(heart.schema).width, based.WIDTH)
    with torch.no_grad():
        for parameter in made.parameters():
            numbers = torch.arange(parameter.numel()) + 1000 * seed
            parameter.copy_((numbers * 7919 % 1009 / 1009 - 0.5).reshape(parameter.shape))
    return made


def base_file(path: Path, seed: int = 1) -> Path:
    """A base in a file."""
    path.write_bytes(encode_torch(layer(seed).state_dict()))
    return path


def based_task(folder: Path) -> tuple[based.Based, Blob]:
    """The task with its base in `folder`, and that."""
    bases = BaseFolder(folder)
    base = bases.add("layer", base_file(folder / "file"))
    return based.task.on(bases), bases.open(base)


def install_based(folder: Path) -> Path:
    """The task installed below `folder`; the interpreter that finds it."""
    package = Path(based.__file__).parent
    return install_task(folder, "based", {name: (package / name).read_text() for name in ("__init__.py", "base.toml")})
