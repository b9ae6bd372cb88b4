"""Low-rank adapters on a frozen model's linear layers: what is trained and sent in its place.

LoRA (Hu et al. 2022, section 4.1). Like `networks` it needs torch, and only tasks load it.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch

from aimass.proto.errors import BadInput

__all__ = ["Adapted", "adapt"]


class Adapted(torch.nn.Module):
    """A linear layer with a correction of low rank: W x + b + (alpha / rank) B A x.

    A begins by chance and B at zero, so that the first step starts from the layer as it is.
    """

    def __init__(self, layer: torch.nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer = layer
        self.scale = alpha / rank
        self.down = torch.nn.Linear(layer.in_features, rank, bias=False)
        self.up = torch.nn.Linear(rank, layer.out_features, bias=False)
        torch.nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        torch.nn.init.zeros_(self.up.weight)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """float32 [..., in] -> [..., out]."""
        corrected: torch.Tensor = self.layer(vectors) + self.scale * self.up(self.down(vectors))
        return corrected


def adapt(model: torch.nn.Module, layers: Collection[str], rank: int = 8, alpha: float = 16.0) -> None:
    """Put an adapter on every linear layer of these names, wherever in `model` it stands.

    Raises `BadInput` where one of the names is no linear layer's.
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if name in layers and isinstance(child, torch.nn.Linear)
    ]
    if absent := set(layers) - {name for _, name, _ in found}:
        raise BadInput(
            "the model has no linear layer of this name",
            code="adapters.layer",
            value=", ".join(sorted(absent)),
            cure="Name the layers to adapt as the model's class does: the last part of their path.",
        )
    for parent, name, child in found:
        setattr(parent, name, Adapted(child, rank, alpha))
