"""The network of the task `adult`."""

from __future__ import annotations

import torch

from aimass.proto.preprocess import Tabular

__all__ = ["Network"]


class Network(torch.nn.Module):
    """The preprocessing and the layers that are trained."""

    def __init__(self, preprocess: Tabular, hidden: int = 64) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.hidden = torch.nn.Linear(preprocess.width, hidden)
        self.output = torch.nn.Linear(hidden, 2)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """Logits [n, 2]."""
        logits: torch.Tensor = self.output(torch.relu(self.hidden(self.preprocess(numbers, categories))))
        return logits
