"""Low-rank adapters on frozen linear layers: what is trained and sent in the place of a large model.

LoRA (Hu et al. 2022, section 4.1). Like `networks` it needs torch, and only tasks load it. Names and beginnings are
those of peft: what is `PATH.lora_A.weight` here is `base_model.model.PATH.lora_A.weight` in its files (see `merging`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import torch

from aimass.proto.errors import BadInput

__all__ = ["Adapted", "adapt", "adapted"]


class Adapted(torch.nn.Module):
    """A frozen linear layer with a correction of low rank: W x + b + (alpha / rank) B A x (equation 3).

    A [rank, in] begins by chance and B [out, rank] at zero, so that the first step starts from the layer as it is.
    """

    def __init__(self, layer: torch.nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.rank, self.alpha = rank, alpha
        self.base_layer = layer.requires_grad_(requires_grad=False)
        self.dropout = torch.nn.Dropout(dropout)
        self.lora_A = torch.nn.Linear(layer.in_features, rank, bias=False)
        self.lora_B = torch.nn.Linear(rank, layer.out_features, bias=False)
        torch.nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        torch.nn.init.zeros_(self.lora_B.weight)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """float32 [..., in] -> [..., out]."""
        low = self.lora_B(self.lora_A(self.dropout(vectors)))
        corrected: torch.Tensor = self.base_layer(vectors) + self.alpha / self.rank * low
        return corrected

    @torch.no_grad()
    def merged(self) -> torch.Tensor:
        """W + (alpha / rank) B A, [out, in] in the layer's type: the weight of one layer that computes the same."""
        weight, product = self.base_layer.weight, self.lora_B.weight.double() @ self.lora_A.weight.double()
        return (weight.double() + self.alpha / self.rank * product).to(weight.dtype)


def adapt(
    model: torch.nn.Module, layers: Collection[str], rank: int = 8, alpha: float = 16.0, dropout: float = 0.0
) -> None:
    """Put an adapter on every linear layer of these names, wherever in `model` it stands; after `freeze`.

    Raises `BadInput` where one of the names is no linear layer's, or the rank is none.
    """
    if rank < 1:
        raise BadInput("an adapter has a rank of one or more", code="adapters.rank", value=rank, limit="from 1")
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if name in layers and type(child) is torch.nn.Linear  # torch's own attention reads weights past the layer
    ]
    if absent := set(layers) - {name for _, name, _ in found}:
        raise BadInput(
            "the model has no linear layer of this name",
            code="adapters.layer",
            value=", ".join(sorted(absent)),
            cure="Name the layers to adapt as the model's class does: the last part of their path.",
        )
    for parent, name, child in found:
        setattr(parent, name, Adapted(child, rank, alpha, dropout))


def adapted(model: torch.nn.Module) -> Iterator[tuple[str, Adapted]]:
    """The adapted layers of `model`, by their paths."""
    for path, layer in model.named_modules():
        if isinstance(layer, Adapted):
            yield path, layer
