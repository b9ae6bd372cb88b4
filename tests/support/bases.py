"""A tiny task on a frozen base, and the base."""

from __future__ import annotations

from pathlib import Path

import torch

from aimass.client.tasks.heart import Heart
from aimass.proto.bases import Base, BaseFolder
from aimass.proto.frozen import freeze
from aimass.proto.tensors import Blob, encode_torch

__all__ = ["WITH_BASE", "base_file", "based_task", "layer"]

_COLUMNS = len(Heart.schema.columns)
_WIDTH = 4


def layer(seed: int = 1) -> torch.nn.Linear:
    """What a base is stored from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Linear(_COLUMNS, _WIDTH)


def base_file(path: Path, seed: int = 1) -> Path:
    """A base in a file."""
    path.write_bytes(encode_torch(layer(seed).state_dict()))
    return path


class _Model(torch.nn.Module):
    def __init__(self, base: Blob) -> None:
        super().__init__()
        with torch.device("meta"):
            self.base = torch.nn.Linear(_COLUMNS, _WIDTH)
        freeze(self.base, base)
        self.head = torch.nn.Linear(_WIDTH, 2)

    def forward(self, numbers: torch.Tensor, _categories: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.base(numbers))
        return logits


class _WithBase(Heart):
    """A head over a frozen layer."""

    _blob = Blob(encode_torch(layer().state_dict()))
    base = Base(name="layer", digest=_blob.digest, bytes=len(_blob.data))

    def build(self) -> torch.nn.Module:
        return _Model(self.base_blob())


WITH_BASE = _WithBase()


def based_task(folder: Path) -> tuple[_WithBase, Blob]:
    """The task with its base in `folder`, and that."""
    bases = BaseFolder(folder)
    base = bases.add("layer", base_file(folder / "file"))
    return WITH_BASE.on(bases), bases.open(base)
