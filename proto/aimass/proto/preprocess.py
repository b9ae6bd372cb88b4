"""From raw numbers and categories to what a network takes, inside the model: parameters alone define a prediction.

The layer's buffers travel with the model under `preprocess.`: public bounds of the schema as `shift` and `span`, and
what the federation learnt about z = (x - shift) / span as `mean` and `scale`.
"""

from __future__ import annotations

import torch

from aimass.proto.manifest import Schema

__all__ = ["Tabular"]


class Tabular(torch.nn.Module):
    """numbers float32 [n, k] with NaN, categories int64 [n, c] with -1 -> features float32 [n, `width`].

    Each number becomes (z - mean) / scale, 0 where missing, and an indicator of missing; each category its one-hot
    code and an indicator of missing. Name the module `preprocess` in the model.
    """

    shift: torch.Tensor
    span: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        low = torch.tensor([column.minimum for column in schema.numbers], dtype=torch.float64)
        high = torch.tensor([column.maximum for column in schema.numbers], dtype=torch.float64)
        self.register_buffer("shift", (low + high) / 2)
        self.register_buffer("span", (high - low) / 2)
        self.register_buffer("mean", torch.zeros(len(low), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(len(low), dtype=torch.float64))
        self._sizes = [len(column.values) for column in schema.categories]
        self.width = 2 * len(low) + sum(size + 1 for size in self._sizes)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """The features, in the order: numbers, their indicators, each category's code and indicator."""
        missing = torch.isnan(numbers)
        z = ((numbers.double() - self.shift) / self.span - self.mean) / self.scale
        parts = [torch.where(missing, torch.zeros_like(z), z).float(), missing.float()]
        for position, size in enumerate(self._sizes):
            # -1 (missing) becomes the last of size + 1 classes: its own indicator.
            index = torch.where(categories[:, position] < 0, size, categories[:, position])
            parts.append(torch.nn.functional.one_hot(index, size + 1).float())
        return torch.cat(parts, dim=1)
