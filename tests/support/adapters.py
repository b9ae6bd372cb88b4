"""A small model with a frozen part that has layers to adapt, and a head that is trained."""

from __future__ import annotations

import torch

from aimass.proto.adapters import adapt
from aimass.proto.frozen import freeze
from aimass.proto.tensors import Blob, encode_torch

__all__ = ["Body", "Small", "small"]


class Body(torch.nn.Module):
    """float32 [..., 6] -> [..., 4]: products, so that each layer's gradient depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.query = torch.nn.Linear(6, 4)
        self.key = torch.nn.Linear(6, 4)
        self.value = torch.nn.Linear(6, 4, bias=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """What the head reads."""
        mixed: torch.Tensor = torch.tanh(self.query(rows) * self.key(rows)) + self.value(rows)
        return mixed


class Small(torch.nn.Module):
    """float32 [n, 6], or [n, positions, 6] of which the mean is taken, -> [n, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.output = Body(), torch.nn.Linear(4, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits."""
        hidden = self.body(rows)
        logits: torch.Tensor = self.output(hidden if hidden.dim() == 2 else hidden.mean(1))
        return logits


def small(rank: int = 2, alpha: float = 6.0, like: Small | None = None) -> Small:
    """The model on the frozen body of `like`, with adapters on two layers."""
    model, like = Small(), like or Small()
    model.load_state_dict(like.state_dict())
    freeze(model.body, Blob(encode_torch(like.body.state_dict())))
    adapt(model.body, ["query", "value"], rank, alpha)
    return model
